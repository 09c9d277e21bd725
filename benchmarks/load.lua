-- For wrk: sends the bytes of the file that REQUEST names, and says as JSON what came of it.
-- Each zero byte in them stands for a number that never comes twice.

local file = assert(io.open(os.getenv("REQUEST"), "rb"))
local text = file:read("*a")
file:close()

local parts = {}
for part in text:gmatch("[^%z]+") do
   parts[#parts + 1] = part
end

if #parts == 1 then
   wrk.format = function() return text end  -- called once: wrk then sends the same again and again
else
   local number = 100000
   request = function()
      number = number + 1
      return table.concat(parts, number)
   end
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "us": %d, "p99_us": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}\n',
      summary.requests, summary.duration, latency:percentile(99),
      errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
