package api

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/missionopsai/foundry/internal/problem"
)

// failure is how huma answers with a problem: with Retry-After where it makes
// sense to try again (RFC 9110, 10.2.3).
func failure(e *problem.Error) error {
	if e.RetryAfter <= 0 {
		return statusError{e}
	}
	return huma.ErrorWithHeaders(statusError{e}, http.Header{"Retry-After": {e.RetryAfterSeconds()}})
}
