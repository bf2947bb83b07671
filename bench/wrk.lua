-- Arguments: how many requests to write at once, how many different cookies to send in turn (0: none), and the file that
-- holds the body of a POST. Prints one line of JSON when done.

local requests, at = {}, 0

function init(args)
  if args[3] then
    local file = io.open(args[3], "rb")
    wrk.method = "POST"
    wrk.body = file:read("*a")
    file:close()
  end
  local block = wrk.format():rep(tonumber(args[1]) or 1)
  -- wrk builds its request once from wrk.format and then runs without Lua, as long as no `request` function exists
  wrk.format = function() return block end
  local cookies = tonumber(args[2])
  for n = 1, cookies do
    requests[n] = block:gsub("\r\n\r\n$", "\r\nCookie: session=" .. n .. "\r\n\r\n")
  end
  if cookies > 0 then
    request = function()
      at = at % cookies + 1
      return requests[at]
    end
  end
end

function done(summary, latency, requests)
  local e = summary.errors
  print(string.format(
    'JSON {"requests": %d, "seconds": %.6f, "bytes": %d, "p50_us": %d, "p99_us": %d, "errors": %d, "refused": %d}',
    summary.requests, summary.duration / 1e6, summary.bytes, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.timeout, e.status))
end
