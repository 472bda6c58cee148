"""What can be seen of a running manager: numbers, live resources, failures, readiness."""

from cachestream.inspection._inspector import ManagerInspector
from cachestream.inspection._values import shown_settings

__all__ = ["ManagerInspector", "shown_settings"]
