"""Media types by file extension, for origins that send none.

The table is our own and the same on every machine: the standard library's is not, because it
reads the system's files.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final
from urllib.parse import unquote

__all__ = ["MEDIA_TYPES", "guess_media_type"]

_BY_TYPE: Final = {
    # Playlists and manifests
    "application/vnd.apple.mpegurl": "m3u8",
    "audio/x-mpegurl": "m3u",
    "audio/x-scpls": "pls",
    "application/dash+xml": "mpd",
    "application/vnd.ms-sstr+xml": "ism ismc",
    "application/xspf+xml": "xspf",
    # Video
    "video/mp4": "mp4 m4v mp4v m4s cmfv",
    "video/mp2t": "ts mts m2ts m2t",
    "video/x-matroska": "mkv mk3d",
    "video/webm": "webm",
    "video/quicktime": "mov qt",
    "video/mpeg": "mpg mpeg mpe m1v m2v vob",
    "video/x-msvideo": "avi",
    "video/x-ms-wmv": "wmv",
    "video/x-ms-asf": "asf",
    "video/x-flv": "flv f4v",
    "video/3gpp": "3gp",
    "video/3gpp2": "3g2",
    "video/ogg": "ogv",
    # Audio
    "audio/mpeg": "mp3 mp2 mpga",
    "audio/mp4": "m4a m4b cmfa",
    "audio/aac": "aac adts",
    "audio/flac": "flac",
    "audio/ogg": "ogg oga opus spx",
    "application/ogg": "ogx",
    "audio/webm": "weba",
    "audio/x-matroska": "mka",
    "audio/wav": "wav wave",
    "audio/aiff": "aif aiff aifc",
    "audio/x-ms-wma": "wma",
    "audio/basic": "au snd",
    "audio/midi": "mid midi",
    "audio/amr": "amr",
    "audio/ac3": "ac3",
    "audio/eac3": "ec3 eac3",
    "audio/x-caf": "caf",
    "audio/x-ape": "ape",
    "audio/x-wavpack": "wv",
    # Subtitles
    "text/vtt": "vtt",
    "application/x-subrip": "srt",
    "application/ttml+xml": "ttml dfxp",
    "text/x-ssa": "ssa ass",
    "application/mp4": "cmft",
    # Images
    "image/jpeg": "jpg jpeg jpe jfif",
    "image/png": "png",
    "image/apng": "apng",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/heic": "heic",
    "image/heif": "heif",
    "image/jxl": "jxl",
    "image/svg+xml": "svg",
    "image/bmp": "bmp",
    "image/tiff": "tif tiff",
    "image/jp2": "jp2",
    "image/vnd.microsoft.icon": "ico",
    # Data
    "application/vnd.apache.parquet": "parquet",
    "application/vnd.apache.arrow.file": "arrow feather",
    "application/vnd.apache.arrow.stream": "arrows",
    "application/vnd+zarr": "zarr",
    "application/x-hdf5": "h5 hdf5 he5",
    "application/x-netcdf": "nc cdf",
    "application/wmo-grib2": "grib2 grb2",
    "application/fits": "fits fit",
    "application/vnd.sqlite3": "sqlite sqlite3 db3",
    "application/geopackage+sqlite3": "gpkg",
    "application/geo+json": "geojson",
    "application/vnd.pmtiles": "pmtiles",
    "application/vnd.laszip+copc": "laz",
    "text/csv": "csv",
    "text/tab-separated-values": "tsv",
    "application/x-ndjson": "ndjson jsonl",
    # The members of a Zarr group are JSON files whose names begin with a dot
    "application/json": "json map zarray zgroup zattrs zmetadata",
    # Web and documents
    "text/html": "html htm",
    "application/xhtml+xml": "xhtml",
    "text/css": "css",
    "text/javascript": "js mjs",
    "application/wasm": "wasm",
    "application/xml": "xml xsl",
    "application/manifest+json": "webmanifest",
    "text/plain": "txt text log",
    "text/markdown": "md",
    "application/yaml": "yaml yml",
    "application/pdf": "pdf",
    "application/epub+zip": "epub",
    "font/woff": "woff",
    "font/woff2": "woff2",
    "font/ttf": "ttf",
    "font/otf": "otf",
    # Archives
    "application/zip": "zip",
    "application/gzip": "gz tgz",
    "application/x-bzip2": "bz2",
    "application/x-xz": "xz",
    "application/zstd": "zst",
    "application/x-tar": "tar",
    "application/x-7z-compressed": "7z",
    "application/vnd.rar": "rar",
    "application/x-iso9660-image": "iso",
}

MEDIA_TYPES: Final = MappingProxyType(
    {extension: kind for kind, names in _BY_TYPE.items() for extension in names.split()}
)
"""Extension (lower case, without its dot) to media type."""


def guess_media_type(url: str) -> str | None:
    """Return the media type that the extension of a URL's path stands for.

    Args:
        url: A source URL, a local one, or a path; never raises.

    Returns:
        A media type without parameters, None when nothing is known.
    """
    path = url.partition("#")[0].partition("?")[0]
    name = unquote(path.partition("://")[2].partition("/")[2] if "://" in path else path)
    extension = name.rpartition("/")[2].rpartition(".")[2]
    return MEDIA_TYPES.get(extension.lower()) if "." in name.rpartition("/")[2] else None
