package ledger

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Limits bound how fast one API key may go, on all gateways together (see
// Share). Zero is no limit.
type Limits struct{ RequestsPerMinute, TokensPerMinute int64 }

// rate is a token bucket in the form of the generic cell rate algorithm: one
// word says when the bucket will be full again, so that taking is one
// compare-and-swap. It holds one minute's worth and starts full.
type rate struct {
	limit atomic.Int64 // per minute; 0: none
	full  atomic.Int64 // when the bucket is full again, Unix nanoseconds
	used  atomic.Int64 // taken here and not told to the other gateways yet
}

const minute = int64(time.Minute)

// never is the wait for more than the bucket can ever hold.
const never = time.Duration(math.MaxInt64)

// take removes n. If there is not enough it removes nothing and says how long
// to wait until there is.
func (r *rate) take(now, n int64) (wait time.Duration, ok bool) {
	limit := r.limit.Load()
	if limit <= 0 || n <= 0 {
		return 0, true
	}
	if n > limit {
		return never, false
	}
	cost := span(n, limit)
	for {
		full := r.full.Load()
		next := max(full, now) + cost
		if next-now > minute {
			return time.Duration(next - now - minute), false
		}
		if r.full.CompareAndSwap(full, next) {
			r.used.Add(n)
			return 0, true
		}
	}
}

// give puts n back; a negative n takes it, whether it is there or not.
func (r *rate) give(n int64) {
	limit := r.limit.Load()
	switch {
	case limit <= 0:
	case n > 0:
		r.full.Add(-span(n, limit))
		r.used.Add(-n)
	case n < 0:
		r.full.Add(span(-n, limit))
		r.used.Add(-n)
	}
}

// span is how long n takes to flow in at limit per minute, rounded down, so
// that a whole limit fits into the bucket; at most an hour.
func span(n, limit int64) int64 {
	hi, lo := bits.Mul64(uint64(n), uint64(minute))
	if hi >= uint64(limit) {
		return 60 * minute
	}
	quotient, _ := bits.Div64(hi, lo, uint64(limit))
	return int64(min(quotient, uint64(60*minute)))
}
