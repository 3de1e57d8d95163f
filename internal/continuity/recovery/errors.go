package recovery

import (
	"errors"

	"github.com/missionopsai/foundry/internal/problem"
)

// Sentinels of the package. Each is a *problem.Error.
var (
	ErrIndeterminate = problem.New(problem.Conflict, "recovery-indeterminate", "It is not known whether the step took effect.").WithMend("Look, and say what is so with `foundry recovery say`.")
	ErrUnknown       = problem.New(problem.NotFound, "recovery-unknown", "There is no such recovery.").WithMend("`foundry recovery list` shows those that there are.")
)

// byHand is an error of a doer that cannot do it here.
type byHand struct{ words string }

func (e *byHand) Error() string { return e.words }

// ByHand is what a doer returns where people have to do the step on this
// installation; words say why.
func ByHand(words string) error { return &byHand{words} }

func handed(err error) (words string, ok bool) {
	var e *byHand
	if errors.As(err, &e) {
		return e.words, true
	}
	return "", false
}
