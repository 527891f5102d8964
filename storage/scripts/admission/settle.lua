-- Ends reservations: settled ones keep what was used, released ones nothing. An end that comes twice changes nothing.
-- ARGV: 1 not_after ms, then for each 5: reservation, s or r, tokens, nano-USD, the record's end "[SUBJECT FLAGS]..." or ''.
-- Returns {OK, now, how many were settled without being there} or {LATE, now}.
local now = clock_ms()
if now > tonumber(ARGV[1]) then return {LATE, now} end
local day = math.floor(now / DAY_MS)
local gone = 0

-- Money was spent and nobody knows whether it was counted.
local function spend_unknown(names, nano)
  for name, flags in string.gmatch(names, '(%S+) (%S+)') do
    for letter in string.gmatch(flags, '[dm]') do
      local key, current = PREFIX .. name, letter == 'd' and day or month_of(day)
      if tonumber(redis.call('HGET', key, letter)) ~= current then
        redis.call('HSET', key, letter, current, letter .. 'h', 0, letter .. 'l', 0)
        redis.call('HDEL', key, letter .. 'w', letter .. 's', letter .. 'q', letter .. 'f')
        redis.call('PEXPIRE', key, KEEP_MS)
      end
      spend(key, letter, nano, true)
    end
  end
end

for i = 2, #ARGV, 5 do
  local words = take_out(ARGV[i])
  if words then
    give_back(words, ARGV[i + 1], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3]), now)
    if words[6] ~= '0' then redis.call('SET', DONE .. ARGV[i], 1, 'PX', DONE_MS) end
  elseif ARGV[i + 1] == SETTLED then
    gone = gone + 1
    spend_unknown(ARGV[i + 4], ARGV[i + 3])
  end
end
return {OK, now, gone}
