-- Play http and https URLs through a running `cachestream serve`.
--
-- Copy this file to ~/.config/mpv/scripts/. Options go to ~/.config/mpv/script-opts/cachestream.conf
-- or on the command line, as in --script-opts=cachestream-base=http://127.0.0.1:4612
--
-- What yt-dlp finds goes through the cache, too, and a URL that cannot be played through it is
-- tried without it.

local options = {
    -- Where `cachestream serve` listens; its first line says it.
    base = "http://127.0.0.1:4612",
    -- The token it was started with.
    token = "",
    enabled = true,
    -- Hosts to play through the cache, with commas between them; their subdomains are meant, too.
    -- Nothing stands for all.
    hosts = "",
    -- Hosts that are always asked directly.
    skip_hosts = "",
}
require("mp.options").read_options(options, "cachestream")

local base = options.base:gsub("/+$", "")
if options.token ~= "" then
    local escaped = options.token:gsub("[^%w%-._~]", function(c)
        return ("%%%02X"):format(c:byte())
    end)
    base = base .. "/~" .. escaped
end

local function is_listed(host, list)
    for entry in list:lower():gmatch("[^,%s]+") do
        entry = entry:gsub("^%*?%.", "")
        if host == entry or host:sub(-#entry - 1) == "." .. entry then
            return true
        end
    end
    return false
end

local function wants(authority)
    local host = authority:lower():gsub(":%d*$", ""):gsub("%.$", "")
    if is_listed(host, options.skip_hosts) then
        return false
    end
    return not options.hosts:find("%S") or is_listed(host, options.hosts)
end

-- The local URL of a source, or nil if it is to be asked directly.
local function to_local(url)
    local scheme, rest = url:match("^(%a+)://([^#]*)")
    scheme = scheme and scheme:lower()
    if scheme ~= "http" and scheme ~= "https" then
        return nil
    end
    if url:sub(1, #options.base) == options.base then
        return nil -- it is one already
    end
    local authority, tail = rest:match("^([^/?]*)(.*)$")
    -- A cache shares what it holds, so it takes no password from a URL.
    if authority == "" or authority:find("@", 1, true) or not wants(authority) then
        return nil
    end
    if tail:sub(1, 1) ~= "/" then
        tail = "/" .. tail
    end
    if scheme == "https" and authority:find("[.:[]") then
        return ("%s/%s%s"):format(base, authority, tail)
    end
    return ("%s/%s/%s%s"):format(base, scheme, authority, tail)
end

-- An EDL with each URL in it made local; mpv quotes them as %LENGTH%URL.
local function edl_to_local(text)
    local parts, position, changed = {}, 1, false
    while true do
        local start, stop, length = text:find("%%(%d+)%%", position)
        if not start then
            break
        end
        length = tonumber(length)
        local value = text:sub(stop + 1, stop + length)
        local found = to_local(value)
        changed = changed or found ~= nil
        found = found or value
        parts[#parts + 1] = text:sub(position, start - 1)
        parts[#parts + 1] = ("%%%d%%%s"):format(#found, found)
        position = stop + length + 1
    end
    parts[#parts + 1] = text:sub(position)
    return changed and table.concat(parts) or nil
end

-- What the file was called before, by what it is called now.
local original = {}

local function through_cache()
    local url = mp.get_property("stream-open-filename", "")
    local found
    if url:sub(1, 6) == "edl://" then
        found = edl_to_local(url)
    else
        found = to_local(url)
    end
    if options.enabled and found then
        mp.msg.verbose("playing " .. url .. " through the cache")
        original = { [found] = url }
        mp.set_property("stream-open-filename", found)
    end
end

-- After yt-dlp, whose hook has priority 10.
mp.add_hook("on_load", 50, through_cache)

local given_back

-- Before yt-dlp: it has to see the page's own URL.
mp.add_hook("on_load_fail", 5, function()
    local url = mp.get_property("stream-open-filename", "")
    given_back = original[url]
    original = {}
    if given_back then
        mp.msg.verbose("trying " .. given_back .. " without the cache")
        mp.set_property("stream-open-filename", given_back)
    end
end)

-- After yt-dlp: what it found is new, and has not been tried through the cache.
mp.add_hook("on_load_fail", 50, function()
    local url = mp.get_property("stream-open-filename", "")
    if given_back and url ~= given_back then
        through_cache()
    elseif given_back then
        -- mpv tries again only what is not spelt as the file it was given; with this prefix it
        -- opens the URL in the same way.
        mp.set_property("stream-open-filename", "lavf://" .. url)
    end
    given_back = nil
end)
