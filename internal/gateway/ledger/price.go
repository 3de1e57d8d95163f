package ledger

import (
	"math"
	"math/bits"

	"github.com/missionopsai/foundry/internal/gateway/wire"
)

// Price is what a provider charges for a model, in nano-units of the currency
// per million tokens: 0.25 EUR per million is 250_000_000.
type Price struct {
	Currency   string
	Input      int64 // input tokens that were neither read from nor written to a cache
	Output     int64 // output tokens, reasoning included
	Cached     int64 // input tokens read from a cache
	CacheWrite int64 // input tokens written to a cache
}

// Cost prices a usage. [wire.Usage] counts cached and cache-written tokens
// within Input and reasoning within Output, so each token is charged once. A
// fraction of a nano-unit counts as a whole one; a sum beyond int64 stays at
// its end. Counts that contradict each other are read to the dearest account
// that they allow.
func (p Price) Cost(u wire.Usage) int64 {
	cached, written := max(u.CachedInput, 0), max(u.CacheWrite, 0)
	fresh := max(max(u.Input, 0)-saturatingAdd(cached, written), 0)
	var s sum
	s.add(fresh, p.Input)
	s.add(cached, p.Cached)
	s.add(written, p.CacheWrite)
	s.add(max(u.Output, u.Reasoning, 0), p.Output)
	return s.perMillion()
}

// Worst is the most a request can cost: all input at the dearest input price
// and all the output it may ask for.
func (p Price) Worst(input, output int64) int64 {
	var s sum
	s.add(max(input, 0), max(p.Input, p.Cached, p.CacheWrite))
	s.add(max(output, 0), p.Output)
	return s.perMillion()
}

// sum adds products of int64 in 128 bits: four of them cannot overflow it.
type sum struct{ hi, lo uint64 }

func (s *sum) add(tokens, price int64) {
	hi, lo := bits.Mul64(uint64(max(tokens, 0)), uint64(max(price, 0)))
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, lo, 0)
	s.hi += hi + carry
}

func (s *sum) perMillion() int64 {
	const million = 1_000_000
	if s.hi >= million {
		return math.MaxInt64
	}
	quotient, rest := bits.Div64(s.hi, s.lo, million)
	if rest > 0 {
		quotient++
	}
	if quotient > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(quotient)
}

func saturatingAdd(a, b int64) int64 {
	switch c := a + b; {
	case a > 0 && b > 0 && c < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && c >= 0:
		return math.MinInt64
	default:
		return c
	}
}
