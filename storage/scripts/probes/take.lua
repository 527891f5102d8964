-- Asks to make the one probe of a resting deployment. ARGV: who asks, for how many ms it has been resting him, lease in
-- ms. Returns a word: `go`; `busy`, somebody else's probe is out; or `works` or `fails`, what somebody's probe has
-- shown since then.
local now = clock_ms()
local kept = redis.call('HMGET', KEYS[1], 'holder', 'until_ms', 'verdict', 'verdict_ms')
if kept[3] and tonumber(kept[4]) > now - tonumber(ARGV[2]) then return kept[3] end
if kept[1] and kept[1] ~= ARGV[1] and tonumber(kept[2]) > now then return 'busy' end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'until_ms', now + ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 'go'
