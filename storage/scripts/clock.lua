-- The server's clock in whole milliseconds since 1970. Tests load a clock of their own in its place.
local function clock_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
