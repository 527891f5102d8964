-- Raises a key's generation, and never lowers it. ARGV: key id, generation. Returns the generation that stands.
local kept = tonumber(redis.call('HGET', PREFIX .. 'generations', ARGV[1]))
if kept and kept >= tonumber(ARGV[2]) then return kept end
redis.call('HSET', PREFIX .. 'generations', ARGV[1], ARGV[2])
return tonumber(ARGV[2])
