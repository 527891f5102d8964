-- Admits one request, or adopts one that a worker admitted while Redis was silent.
--
-- ARGV: 1 reservation, 2 tokens, 3 nano-USD, 4 not_after ms, 5 lease ms, 6 key id or '', 7 its generation (to adopt: when
-- it was admitted, ms), 8 the record's end "[SUBJECT FLAGS]...", 9 number of loads (-1: adopt), then for each load 5: subject, d or m, period, late seen,
-- spent; then for each subject 9: name, strict 0/1, and upper bounds or '': requests, requests/min, tokens, tokens/min,
-- parallel, nano-USD a day, a month.
-- Returns {OK, now, left...}, {REFUSED, now, subject, dimension, wait ms or -1}, {LATE, now}, {STALE, now} or
-- {MISSING, now, [subject, dimension, late]...}. Subjects and dimensions count from 0; what is left of a bucket is in 1/60000.
local REQUESTS, TOKENS, PARALLEL, USD_DAY, USD_MONTH = 0, 1, 2, 3, 4
local PARALLEL_RETRY_MS = 1000

local id, asked_tokens, asked_nano = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local adopted = ARGV[9] == '-1'
local now = clock_ms()
local second, day = math.floor(now / 1000), math.floor(now / DAY_MS)
local month = month_of(day)

if now > tonumber(ARGV[4]) then return {LATE, now} end
if ARGV[6] ~= '' then
  local generation = redis.call('HGET', PREFIX .. 'generations', ARGV[6])
  if generation and tonumber(generation) > tonumber(ARGV[7]) then return {STALE, now} end
end
local first = 10 + math.max(0, tonumber(ARGV[9])) * 5
if first > #ARGV then return {OK, now} end -- nobody has limits: only the key was to be checked
return_overdue(now, 16)

local told = {} -- what this call brought: it asks for no more, even of what is in doubt
for i = 10, first - 1, 5 do
  local key, letter = PREFIX .. ARGV[i], ARGV[i + 1]
  local current = letter == 'd' and day or month
  if tonumber(ARGV[i + 2]) == current then
    told[ARGV[i] .. letter] = true
    local state = redis.call('HMGET', key, letter, letter .. 's', letter .. 'l', letter .. 'q', letter .. 'f')
    if tonumber(state[1]) ~= current then
      redis.call('HSET', key, letter, current, letter .. 'h', 0, letter .. 's', ARGV[i + 4], letter .. 'w', now)
      redis.call('HDEL', key, letter .. 'l', letter .. 'q', letter .. 'f')
    elseif tonumber(ARGV[i + 3]) >= tonumber(state[5] or 0) and (not state[2] or state[4]) then
      redis.call('HSET', key, letter .. 's', ARGV[i + 4], letter .. 'w', now)
      redis.call('HDEL', key, letter .. 'q')
      -- What was settled while the ledger was asked may not have been in its answer, or may.
      local since = tonumber(state[3] or 0) - tonumber(ARGV[i + 3])
      if since > 0 then
        redis.call('HINCRBY', key, letter .. 's', since)
        redis.call('HSET', key, letter .. 'q', 1)
      end
    end
    redis.call('PEXPIRE', key, KEEP_MS)
  end
end

local known = redis.call('HEXISTS', RECORDS, id) == 1 or (adopted and redis.call('EXISTS', DONE .. id) == 1)
local left, missing = {OK, now}, {MISSING, now}
local sets, drops, windows = {}, {}, {} -- what is to be written: for each subject fields, fields to remove, and minutes
local wait, subject, dimension = 0, 0, 0

local function refuse(which, what, ms)
  if ms > wait then wait, subject, dimension = ms, which, what end
end

local function set(which, field, value)
  local fields = sets[which]
  fields[#fields + 1] = field
  fields[#fields + 1] = value
end

local function quotient_up(dividend, divisor)
  local quotient = math.floor(dividend / divisor)
  return quotient * divisor < dividend and quotient + 1 or quotient
end

local function bucket(which, what, field, level, at, capacity, rate, asked)
  local need, since = asked * MINUTE_MS, now
  local units = capacity * MINUTE_MS
  if level and at then
    since = math.max(now, tonumber(at))
    units = math.min(units, tonumber(level) + rate * (since - tonumber(at)))
  end
  if units < need then
    refuse(which, what, (asked > capacity or rate == 0) and math.huge or quotient_up(need - units, rate))
  end
  left[#left + 1] = known and units or units - need
  set(which, field, units - need)
  set(which, field .. 'a', since)
end

local function window(which, what, key, capacity, asked)
  local flat, slots, old, total = redis.call('HGETALL', key), {}, {}, 0
  for i = 1, #flat, 2 do
    local slot, count = tonumber(flat[i]), tonumber(flat[i + 1])
    if slot > second - WINDOW_S then
      slots[#slots + 1] = {slot, count}
      total = total + count
    else
      old[#old + 1] = flat[i]
    end
  end
  local over = total + asked - capacity
  if over > 0 and asked > capacity then
    refuse(which, what, math.huge)
  elseif over > 0 then
    table.sort(slots, function(a, b) return a[1] < b[1] end)
    for _, slot in ipairs(slots) do
      over = over - slot[2]
      if over <= 0 then
        refuse(which, what, (slot[1] + WINDOW_S) * 1000 - now)
        break
      end
    end
  end
  left[#left + 1] = known and capacity - total or capacity - total - asked
  windows[#windows + 1] = {key, asked, old}
end

local function places(which, taken, limit)
  local free = limit - tonumber(taken or 0)
  if free < 1 then refuse(which, PARALLEL, limit < 1 and math.huge or PARALLEL_RETRY_MS) end
  left[#left + 1] = known and free or free - 1
  set(which, 'p', limit - free + 1)
end

local function money(which, what, letter, current, kept, held, spent, late, doubt, limit, asked)
  if tonumber(kept) ~= current then
    held, spent, late, doubt = 0, false, 0, false
    set(which, letter, current)
    drops[which] = drops[which] or {}
    table.insert(drops[which], letter .. 's')
    table.insert(drops[which], letter .. 'l')
    table.insert(drops[which], letter .. 'w')
    table.insert(drops[which], letter .. 'q')
    table.insert(drops[which], letter .. 'f')
  end
  held = tonumber(held or 0)
  -- In this order nothing is rounded where it decides.
  local remaining = limit - tonumber(spent or 0) - held
  if not spent or (doubt and not asked and remaining < asked_nano) then
    missing[#missing + 1], missing[#missing + 2], missing[#missing + 3] = which, what, tonumber(late or 0)
  elseif remaining < asked_nano then
    local reopens = day + 1
    if letter == 'm' then
      while month_of(reopens) == month do reopens = reopens + 1 end
    end
    refuse(which, what, asked_nano > limit and math.huge or reopens * DAY_MS - now)
  end
  left[#left + 1] = known and remaining or remaining - asked_nano
  set(which, letter .. 'h', held + asked_nano)
end

local names = {}
for i = first, #ARGV, 9 do
  local which, key, strict = #names, PREFIX .. ARGV[i], ARGV[i + 1] == '1'
  local requests, tokens, parallel = tonumber(ARGV[i + 2]), tonumber(ARGV[i + 4]), tonumber(ARGV[i + 6])
  local a_day, a_month = tonumber(ARGV[i + 7]), tonumber(ARGV[i + 8])
  names[#names + 1] = key
  sets[which] = {}
  local fields, at = {'x'}, 0
  for _, wanted in ipairs({
    requests and not strict and {'r', 'ra'} or {}, tokens and not strict and {'t', 'ta'} or {},
    parallel and {'p'} or {}, a_day and {'d', 'dh', 'ds', 'dl', 'dq'} or {}, a_month and {'m', 'mh', 'ms', 'ml', 'mq'} or {},
  }) do
    for _, field in ipairs(wanted) do fields[#fields + 1] = field end
  end
  local state = redis.call('HMGET', key, unpack(fields))
  local function read()
    at = at + 1
    return state[at]
  end
  if tonumber(read()) ~= day then set(which, 'x', day) end
  if requests and strict then
    window(which, REQUESTS, key .. ':r', requests, 1)
  elseif requests then
    bucket(which, REQUESTS, 'r', read(), read(), requests, tonumber(ARGV[i + 3]), 1)
  end
  if tokens and strict then
    window(which, TOKENS, key .. ':t', tokens, asked_tokens)
  elseif tokens then
    bucket(which, TOKENS, 't', read(), read(), tokens, tonumber(ARGV[i + 5]), asked_tokens)
  end
  if parallel then places(which, read(), parallel) end
  if a_day then money(which, USD_DAY, 'd', day, read(), read(), read(), read(), read(), a_day, told[ARGV[i] .. 'd']) end
  if a_month then money(which, USD_MONTH, 'm', month, read(), read(), read(), read(), read(), a_month, told[ARGV[i] .. 'm']) end
end

if not (known or adopted) then
  if #missing > 2 then return missing end
  if wait > 0 then return {REFUSED, now, subject, dimension, wait == math.huge and -1 or wait} end
end
if not known then
  for i, key in ipairs(names) do
    local fields = sets[i - 1]
    if #fields > 0 then redis.call('HSET', key, unpack(fields)) end
    if fields[1] == 'x' then redis.call('PEXPIRE', key, KEEP_MS) end -- once a day is enough
    if drops[i - 1] then redis.call('HDEL', key, unpack(drops[i - 1])) end
  end
  for _, minute in ipairs(windows) do
    local key, asked, old = unpack(minute)
    if #old > 0 then redis.call('HDEL', key, unpack(old)) end
    redis.call('HINCRBY', key, second, asked)
    redis.call('PEXPIRE', key, (WINDOW_S + 1) * 1000)
  end
  local words = {second, ARGV[2], ARGV[3], day, month, adopted and ARGV[7] or '0', ARGV[8]}
  redis.call('HSET', RECORDS, id, table.concat(words, ' '))
  redis.call('ZADD', LEASES, now + tonumber(ARGV[5]), id)
end
return left
