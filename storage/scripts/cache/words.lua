-- What scripts of the cache share. All keys of a tenant begin with `{TENANT}:cache:` and so stand on one node.
-- An entry is a hash: `body`, `marks` ("NAME=GENERATION ..."), `at` (ms). The generation of a name rises when all that
-- carries the name is purged: an entry whose generations are not those of today is no entry any more.
-- A flight says who computes an entry: the token of a request, or ALONE for a while where nothing came of it that can
-- be kept, so that nobody waits for it.
local ALONE = '-'

local function holds(generations, marks)
  for name, generation in string.gmatch(marks, '(%S+)=(%d+)') do
    if (redis.call('HGET', generations, name) or '0') ~= generation then return false end
  end
  return true
end

-- Keeps the account of an entry that is to go: its size leaves the sum.
local function strike(index, member)
  if redis.call('ZREM', index, member) == 1 then
    redis.call('DECRBY', index .. ':bytes', tonumber(string.match(member, '^(%d+)')))
  end
end
