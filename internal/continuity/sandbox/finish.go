package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/missionopsai/foundry/internal/continuity/exercise"
	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/incident"
)

// finish judges, and writes what is kept: the record, the page, and beside
// them every timeline that they refer to.
func (r *runner) finish() error {
	r.rec.Judge()
	r.act("ended", "", string(r.rec.Outcome)+": "+r.rec.Words, map[string]string{exercise.FactRecord: r.rec.Digest()})
	own := r.log.Timeline()
	timelines := map[string]*incident.Timeline{r.rec.ID: own}
	r.rec.Timelines = append(r.rec.Timelines, exercise.Source{ID: r.rec.ID, Title: "What the exercise did and saw", Entries: own.State.Head.N, Head: own.State.Head.Hash, File: r.rec.ID + ".timeline"})
	var bad error
	for _, t := range r.incidents {
		id := t.State.ID
		timelines[id] = t
		r.rec.Timelines = append(r.rec.Timelines, exercise.Source{ID: id, Title: "What the fleet did: " + t.State.Title, Entries: t.State.Head.N, Head: t.State.Head.Hash, File: id + ".timeline"})
		bad = errors.Join(bad, durable.Replace(filepath.Join(r.o.Dir, id+".timeline"), lines(t), 0o644))
	}
	return errors.Join(bad, exercise.Write(r.o.Dir, r.rec, timelines))
}

// collect takes the timelines of the fleet's incidents from a survivor, as its
// operators would export them.
func (r *runner) collect(ctx context.Context) error {
	n := r.lab.anyone(ctx)
	if n == nil {
		return errors.New("no node with a majority answers: the timelines of the fleet are not in the report")
	}
	for _, i := range r.lab.seen.view().incidents {
		text, err := n.run(ctx, "incident", "export", i.ID, "--out", "-")
		if err != nil {
			return err
		}
		v, err := incident.VerifyExport(strings.NewReader(text))
		if err != nil {
			return fmt.Errorf("the timeline of %s does not verify: %w", i.ID, err)
		}
		r.incidents = append(r.incidents, v.Timeline)
	}
	return nil
}

func lines(t *incident.Timeline) []byte {
	var out bytes.Buffer
	for i := range t.Entries {
		if line, err := t.Entries[i].Encode(); err == nil {
			out.Write(line)
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}
