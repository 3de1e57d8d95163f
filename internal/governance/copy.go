package governance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
)

// The plan is needed most when the database is away. So this node keeps a
// sealed copy of what is in force on its disk, and shows that then, with the
// moment of which it is. Nothing is decided by a copy.

// copyLabel is bound to the sealed copy, so that no other sealed file is one.
const copyLabel = "foundry plan copy v1"

// copyEvery is how old the copy on disk gets while nothing in it changes.
const copyEvery = 15 * time.Minute

// copied is what is in the copy.
type copied struct {
	At        time.Time               `json:"at"` // when the database was read
	Revision  Revision                `json:"revision"`
	Content   content                 `json:"content"`
	Reviews   []Review                `json:"reviews"`
	Confirmed map[string]confirmation `json:"confirmed"`
	Measured  plan.Measured           `json:"measured"`
	Actions   []Action                `json:"actions,omitempty"`

	read *plan.Plan
}

// keepCopy writes what is in force to disk, if it differs from what is there
// or that is old. Without a plan in force no copy is kept.
func (g *Plans) keepCopy(ctx context.Context) error {
	if g.o.Copy == "" {
		return nil
	}
	r, read, err := g.stored(ctx)
	if isNone(err) {
		return nil // nothing takes a plan out of force but another one
	}
	if err != nil {
		return err
	}
	c := copied{At: g.o.Clock().UTC(), Revision: r, Content: content{Text: string(read.Text), Books: map[string]string{}}, Measured: g.measured(ctx, read), Actions: g.actions(ctx)}
	for name, text := range read.Books {
		c.Content.Books[name] = string(text)
	}
	err = g.o.DB.Read(ctx, func(tx pgx.Tx) (err error) {
		if c.Revision.Read, err = selectAcknowledgements(ctx, tx, r.Hash); err != nil {
			return err
		}
		if c.Reviews, err = selectReviews(ctx, tx); err != nil {
			return err
		}
		c.Confirmed, err = selectConfirmations(ctx, tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("reading the plan for its copy: %w", err)
	}
	return g.writeCopy(&c)
}

func (g *Plans) writeCopy(c *copied) error {
	g.copying.Lock()
	defer g.copying.Unlock()
	same := *c
	same.At = g.copyAt
	body, err := json.Marshal(same)
	if err != nil {
		return fmt.Errorf("writing the plan's copy: %w", err)
	}
	if string(body) == g.copyBody && c.At.Sub(g.copyAt) < copyEvery {
		return nil
	}
	if body, err = json.Marshal(c); err != nil {
		return fmt.Errorf("writing the plan's copy: %w", err)
	}
	sealed, err := g.o.Seal(body, []byte(copyLabel))
	if err != nil {
		return fmt.Errorf("sealing the plan's copy: %w", err)
	}
	if err := durable.Replace(g.o.Copy, sealed, 0o600); err != nil {
		return fmt.Errorf("writing the plan's copy: %w", err)
	}
	g.copyAt, g.copyBody = c.At, string(body)
	return nil
}

// copyFor gives the copy where the database is away; any other error stays
// what it is.
func (g *Plans) copyFor(why error) (*copied, error) {
	if !errors.Is(why, db.ErrUnavailable) || g.o.Copy == "" {
		return nil, why
	}
	sealed, err := os.ReadFile(g.o.Copy)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, problem.New(problem.Unavailable, "plan-copy-none", "The database is away, and this node has no copy of a plan: none was in force when it last looked.").WithMend("Wait for the database, or read the file in your repository: `foundry plan check` needs no server.").Wrap(why)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the plan's copy: %w", err)
	}
	body, err := g.o.Open(sealed, []byte(copyLabel))
	if err != nil {
		return nil, problem.New(problem.Internal, "plan-copy-unreadable", "The database is away, and the copy of the plan does not open: "+g.o.Copy+".").WithMend("Delete it; it is written again when the database is back.").Wrap(err)
	}
	var c copied
	if err := json.Unmarshal(body, &c); err != nil {
		return nil, fmt.Errorf("reading the plan's copy: %w", err)
	}
	if c.read, err = c.Content.parse(); err != nil {
		return nil, err
	}
	c.Revision.Copied = &c.At
	return &c, nil
}

// parse reads a plan with its runbooks.
func (c *content) parse() (*plan.Plan, error) {
	read, err := plan.Parse("fleet.yaml", []byte(c.Text))
	if err != nil {
		return nil, err
	}
	read.Books = map[string][]byte{}
	for name, text := range c.Books {
		read.Books[name] = []byte(text)
	}
	return read, nil
}

// isNone reports whether an error says that no plan is in force.
func isNone(err error) bool {
	var p *problem.Error
	return errors.As(err, &p) && p.Code == "plan-none"
}
