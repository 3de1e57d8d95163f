package console

import (
	"context"

	"github.com/a-h/templ"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/problem"
)

// bounded is a page or an act that waits for the database no longer than a
// person does.
type bounded func(ctx context.Context, v *visit) error

// within makes a bounded page a route's. There is nothing to show where what it
// shows is missing: then the answer is why.
func within(missing error, do bounded) func(*visit) error {
	return func(v *visit) error {
		if missing != nil {
			return missing
		}
		ctx, cancel := v.ctx()
		defer cancel()
		return do(ctx, v)
	}
}

// absent is why a part of the console has nothing to show; nil: it is there.
func absent[T any](part *T, why *problem.Error) error {
	if part == nil {
		return why
	}
	return nil
}

// sheet is a page with a form: how it is shown, empty or with what was wrong.
type sheet func(ctx context.Context, v *visit, f form, status int) error

// empty shows the form as it is before anybody wrote in it.
func (s sheet) empty(ctx context.Context, v *visit) error { return s(ctx, v, form{}, 0) }

// sent reads a form, does what it asks for, and leads on. What the person can
// mend is said at its field, in the same form; anything else is an error page.
func (s sheet) sent(fallback string, fields []string, act func(ctx context.Context, v *visit, f *form) (templ.SafeURL, error)) bounded {
	return func(ctx context.Context, v *visit) error {
		f, err := readForm(v.r, fields...)
		if err != nil {
			return err
		}
		to, err := act(ctx, v, &f)
		if err == nil {
			return v.seeOther(to)
		}
		if err := f.mended(err, fallback); err != nil {
			return err
		}
		return s(ctx, v, f, f.problem.Kind.Status())
	}
}

// pathID is the identifier in a path, or that there is no such thing.
func (v *visit) pathID(name string, unknown *problem.Error) (uuid.UUID, error) {
	id, err := uuid.Parse(v.r.PathValue(name))
	if err != nil {
		return id, unknown
	}
	return id, nil
}
