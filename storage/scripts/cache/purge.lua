-- Makes all entries void that carry a name. KEYS: 1 generations. ARGV: 1 name, 2 for how many ms that must be remembered.
-- A hash that is forgotten later, or lost, lets no old entry come back: none lives as long.
local generation = redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return generation
