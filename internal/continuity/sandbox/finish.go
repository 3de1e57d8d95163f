package sandbox

import (
	"bytes"
	"errors"
	"path/filepath"

	"github.com/missionopsai/foundry/internal/continuity/exercise"
	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/incident"
)

// finish judges, and writes what is kept: the record, the page, and beside
// them every timeline that they refer to.
func (r *runner) finish() error {
	r.rec.Judge()
	r.act("ended", "", string(r.rec.Outcome)+": "+r.rec.Words, nil)
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
