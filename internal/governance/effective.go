package governance

import (
	"context"

	"github.com/missionopsai/foundry/internal/problem"
)

// Effective is the plan in force with its text and runbooks, for the node itself, which
// tells it to the fleet. Nil: there is none.
func (g *Plans) Effective(ctx context.Context) (*Revision, error) {
	r, read, err := g.stored(ctx)
	if err != nil {
		if problem.From(err).Code == "plan-none" {
			return nil, nil
		}
		return nil, err
	}
	r.Text, r.Books = string(read.Text), map[string]string{}
	for name, text := range read.Books {
		r.Books[name] = string(text)
	}
	return &r, nil
}
