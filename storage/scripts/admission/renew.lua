-- Prolongs leases. ARGV: 1 not_after ms, 2 lease ms, then reservations.
-- Returns {OK, now, those that are gone, by their position from 0...} or {LATE, now}.
local now = clock_ms()
if now > tonumber(ARGV[1]) then return {LATE, now} end
local answer = {OK, now}
for i = 3, #ARGV do
  if redis.call('HEXISTS', RECORDS, ARGV[i]) == 1 then
    redis.call('ZADD', LEASES, now + tonumber(ARGV[2]), ARGV[i])
  else
    answer[#answer + 1] = i - 3
  end
end
return answer
