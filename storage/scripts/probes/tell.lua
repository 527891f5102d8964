-- Ends a probe; nothing happens when another one has taken its place. ARGV: who made it, what it has shown (`works`,
-- `fails`, or nothing), for how many ms that is told. Returns 1, or 0 where it was not the one that is out.
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], 'verdict', ARGV[2], 'verdict_ms', clock_ms())
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
