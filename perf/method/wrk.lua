-- Exact totals as one JSON line: wrk's own report rounds them. No request hook, so that every
-- request stays the one prepared at start.
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\nTOTALS {"requests":%d,"bytes":%d,"duration_us":%d,"errors":%d}\n',
    summary.requests, summary.bytes, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout))
end
