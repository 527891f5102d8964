-- The clock that tests set: the key `clock_ms`.
local function clock_ms()
  return tonumber(redis.call('GET', 'clock_ms'))
end
