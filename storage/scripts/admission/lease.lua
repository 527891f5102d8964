-- Leases a worker its part of limits that all tenants share. `api/admission/common.py` says what it must do.
--
-- KEYS[1] is the prefix `stoker:{*KIND:ID}:` of one subject's keys:
--   whole       hash: for each letter r, t, p, d, m (requests, tokens, places, money of a day, of a month) LETTERh held by all accounts;
--               r, t what is left in the bucket, in 1/60000, and ra, ta when that was, ms; d, m the period that the money is
--               of, ds, ms spent (absent: ask the ledger), dw, mw when the ledger was asked last, ms, dl, ml settled since
--               the period began, dq, mq set while what was spent is in doubt, df, mf as for a tenant's subjects
--   leases      sorted set: account -> end of its lease, ms
--   account:ID  hash: c number of its last call; LETTERh held, LETTERu used; d, m the money's period, da, ma when it was
--               reported last, ms
-- ARGV: 1 account, 2 number of the call, 3 not_after ms, 4 lease ms, 5 whether the account was answered before 0/1, 6 number of
-- loads, then for each load 4: d or m, period, late seen, spent; then for each meter 8: letter, limit, units a minute, period,
-- used, floor, need, spare.
-- Returns {OK, now, [held, left or '', period]...}, {LATE, now}, {OLD, now} or {MISSING, now, [meter, late]...}. Meters count
-- from 0; what is left of a bucket is in 1/60000.
local PREFIX = KEYS[1]
local WHOLE, LEASES, ACCOUNT = PREFIX .. 'whole', PREFIX .. 'leases', PREFIX .. 'account:'
local OVERDUE_AT_ONCE = 16

local now = clock_ms()
if now > tonumber(ARGV[3]) then return {LATE, now} end
local day = math.floor(now / DAY_MS)
local current = {d = day, m = month_of(day)}

local function hash(key)
  local flat, found = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do found[flat[i]] = flat[i + 1] end
  return found
end

local whole = hash(WHOLE)
local drops = {} -- fields of the whole to be removed

local function number(fields, name) return tonumber(fields[name] or 0) end

local function drop(name)
  whole[name] = nil
  drops[name] = true
end

local function put(name, value)
  whole[name] = value
  drops[name] = nil
end

-- Has the ledger asked anew; an answer that is on its way does not count.
local function forget(letter)
  drop(letter .. 's')
  put(letter .. 'l', number(whole, letter .. 'l') + 1)
  put(letter .. 'f', whole[letter .. 'l'])
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, OVERDUE_AT_ONCE)) do
  local account = hash(ACCOUNT .. id)
  for _, letter in ipairs({'r', 't', 'p', 'd', 'm'}) do
    local held = number(account, letter .. 'h')
    if held ~= 0 and (not current[letter] or whole[letter] == account[letter]) then
      put(letter .. 'h', number(whole, letter .. 'h') - held)
      if current[letter] then forget(letter) end -- it had not reported all that it spent
    end
  end
  redis.call('DEL', ACCOUNT .. id)
  redis.call('ZREM', LEASES, id)
end

local function save()
  local names, fields = {}, {}
  for name in pairs(drops) do names[#names + 1] = name end
  if #names > 0 then redis.call('HDEL', WHOLE, unpack(names)) end
  for name, value in pairs(whole) do
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if #fields > 0 then
    redis.call('HSET', WHOLE, unpack(fields))
    redis.call('PEXPIRE', WHOLE, KEEP_MS)
  end
end

local account, call = hash(ACCOUNT .. ARGV[1]), tonumber(ARGV[2])
local known = account.c ~= nil
if known and call <= tonumber(account.c) then
  save()
  return {OLD, now}
end

local meters = {}
for i = 7 + tonumber(ARGV[6]) * 4, #ARGV, 8 do
  meters[#meters + 1] = {
    letter = ARGV[i], limit = tonumber(ARGV[i + 1]), rate = tonumber(ARGV[i + 2]), period = tonumber(ARGV[i + 3]),
    used = tonumber(ARGV[i + 4]), floor = tonumber(ARGV[i + 5]), need = tonumber(ARGV[i + 6]), spare = tonumber(ARGV[i + 7]),
    money = current[ARGV[i]] ~= nil, bucket = ARGV[i] == 'r' or ARGV[i] == 't',
  }
end

-- Money of another period is over.
local function turn(letter)
  if tonumber(whole[letter]) ~= current[letter] then
    put(letter, current[letter])
    put(letter .. 'h', 0)
    for _, what in ipairs({'s', 'l', 'w', 'q', 'f'}) do drop(letter .. what) end
  end
end

-- What nobody holds; of a bucket in 1/60000.
local function left_of(meter)
  local letter = meter.letter
  local held = number(whole, letter .. 'h')
  if meter.money then return meter.limit - number(whole, letter .. 's') - held end
  if not meter.bucket then return meter.limit - held end
  local most = (meter.limit - held) * MINUTE_MS
  if not whole[letter] then return most end
  return math.min(most, tonumber(whole[letter]) + meter.rate * math.max(0, now - tonumber(whole[letter .. 'a'])))
end

local function put_bucket(meter, units)
  put(meter.letter, units)
  put(meter.letter .. 'a', math.max(now, number(whole, meter.letter .. 'a')))
end

local function hold(meter, held)
  local name = meter.letter .. 'h'
  put(name, number(whole, name) + held - number(account, name))
  account[name] = held
end

if not known then -- a new account, or one that was lost, whose unreported money only the ledger knows
  local lost = ARGV[5] == '1'
  for _, meter in ipairs(meters) do
    account[meter.letter .. 'u'] = lost and meter.used or 0
    if meter.money then
      account[meter.letter] = meter.period
      turn(meter.letter)
      if lost and meter.used ~= 0 then
        drop(meter.letter .. 's')
        put(meter.letter .. 'l', number(whole, meter.letter .. 'l') + meter.used)
      end
    end
  end
end

local told = {} -- what this call brought: it asks for no more, even of what is in doubt
for i = 7, 6 + tonumber(ARGV[6]) * 4, 4 do
  local letter, spent = ARGV[i], ARGV[i] .. 's'
  turn(letter)
  if tonumber(ARGV[i + 1]) == current[letter] then
    told[letter] = true
    if tonumber(ARGV[i + 2]) >= number(whole, letter .. 'f') and (not whole[spent] or whole[letter .. 'q']) then
      local since = math.max(0, number(whole, letter .. 'l') - tonumber(ARGV[i + 2]))
      put(spent, tonumber(ARGV[i + 3]) + since)
      put(letter .. 'w', now)
      if since > 0 then put(letter .. 'q', 1) else drop(letter .. 'q') end
    end
  end
end

-- Counts what was used since the account's last call.
for _, meter in ipairs(meters) do
  local letter = meter.letter
  if meter.money then
    turn(letter)
    if tonumber(account[letter] or meter.period) ~= current[letter] then
      account[letter .. 'h'], account[letter .. 'u'] = 0, 0
    end
    account[letter] = current[letter]
    if meter.period ~= current[letter] then
      forget(letter) -- whatever it has not reported is in the ledger
      account[letter .. 'u'] = 0
      meter.floor, meter.need, meter.spare = 0, 0, 0
    else
      local used, told = meter.used - number(account, letter .. 'u'), number(account, letter .. 'a')
      account[letter .. 'u'], account[letter .. 'a'] = meter.used, now
      if used ~= 0 then
        put(letter .. 'l', number(whole, letter .. 'l') + used)
        if whole[letter .. 's'] then
          put(letter .. 's', number(whole, letter .. 's') + used)
          if number(whole, letter .. 'w') >= told - SLACK_MS then put(letter .. 'q', 1) end
        end
        hold(meter, number(account, letter .. 'h') - used)
      end
    end
  else
    local used = meter.used - tonumber(account[letter .. 'u'] or meter.used)
    account[letter .. 'u'] = meter.used
    if meter.bucket then
      put_bucket(meter, left_of(meter))
      hold(meter, number(account, letter .. 'h') - used)
    end
  end
end
redis.call('ZADD', LEASES, now + tonumber(ARGV[4]), ARGV[1])
local accounts = redis.call('ZCARD', LEASES)
redis.call('PEXPIRE', LEASES, KEEP_MS)
account.c = call

-- What is there for needs and spare if the account keeps its floor.
local function pool_of(meter)
  local units = meter.bucket and MINUTE_MS or 1
  return math.floor((left_of(meter) + (number(account, meter.letter .. 'h') - meter.floor) * units) / units)
end

local missing, nothing = {MISSING, now}, false
for at, meter in ipairs(meters) do
  local letter, short = meter.letter, meter.need > math.max(0, pool_of(meter))
  nothing = nothing or short
  if meter.money and meter.need > 0 then
    if not whole[letter .. 's'] or (whole[letter .. 'q'] and short and not told[letter]) then
      missing[#missing + 1] = at - 1
      missing[#missing + 1] = number(whole, letter .. 'l')
    end
  end
end

local answer = {OK, now}
for _, meter in ipairs(meters) do
  local letter = meter.letter
  local unknown = meter.money and not whole[letter .. 's']
  local pool, given = math.max(0, pool_of(meter)), 0
  if #missing == 2 and not nothing then
    given = meter.need
    if not unknown then given = given + math.min(meter.spare, math.floor((pool - given) / (2 * accounts))) end
  end
  local units = left_of(meter) + (number(account, letter .. 'h') - meter.floor - given) * MINUTE_MS
  hold(meter, meter.floor + given)
  if meter.bucket then put_bucket(meter, units) end
  answer[#answer + 1] = meter.floor + given
  answer[#answer + 1] = unknown and '' or left_of(meter)
  answer[#answer + 1] = meter.money and current[letter] or 0
end
save()
local fields = {}
for name, value in pairs(account) do
  fields[#fields + 1] = name
  fields[#fields + 1] = value
end
redis.call('HSET', ACCOUNT .. ARGV[1], unpack(fields))
redis.call('PEXPIRE', ACCOUNT .. ARGV[1], KEEP_MS)
return #missing > 2 and missing or answer
