package ledger

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/missionopsai/foundry/internal/gateway/journal"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// request is what must be remembered of an admission until its outcome comes.
type request struct {
	at            time.Time
	org           uuid.UUID
	key           string
	model         string
	provider      string // of the last destination
	providerModel string
	jurisdiction  string
	currency      string
	decision      [16]byte
	reserved      int64
	class         sovereignty.DataClass
}

func opened(a *Admission) request {
	return request{
		at: a.At, org: a.Organisation, key: a.Key, model: a.Model, provider: a.Provider, providerModel: a.ProviderModel,
		jurisdiction: string(a.Jurisdiction), currency: a.Currency, decision: a.Decision, reserved: a.ReservedNano, class: a.Class,
	}
}

func (r *request) moved(a *Attempt) {
	r.provider, r.providerModel, r.jurisdiction = a.Provider, a.ProviderModel, string(a.Jurisdiction)
}

// requests is the admissions without an outcome, by their place.
type requests map[journal.Position]request

// place is where the admission of an outcome is, which this boot may have
// written for an earlier one.
func (o *Outcome) place(boot uint32) journal.Position {
	if o.Boot != 0 {
		boot = o.Boot
	}
	return journal.Position{Boot: boot, Seq: o.Seq}
}

// follow replays one record. Records that it cannot read it passes over: the
// shipper sets them aside when it comes to them.
func (open requests) follow(d *decoder, e *journal.Entry) {
	kind, known, err := d.start(e.Record)
	if err != nil || !known {
		return
	}
	switch kind {
	case kindAdmission:
		var a Admission
		if d.admission(&a) == nil {
			open[journal.Position{Boot: e.Boot, Seq: e.Seq}] = opened(&a)
		}
	case kindAttempt:
		var a Attempt
		at := journal.Position{Boot: e.Boot}
		if d.attempt(&a) == nil {
			at.Seq = a.Seq
			if r, ok := open[at]; ok {
				r.moved(&a)
				open[at] = r
			}
		}
	case kindOutcome:
		var o Outcome
		if d.outcome(&o) == nil {
			delete(open, o.place(e.Boot))
		}
	}
}

// oldest returns the first open admission before end, or end.
func (open requests) oldest(end journal.Position) journal.Position {
	for at := range open {
		if at.Before(end) {
			end = at
		}
	}
	return end
}

// sorted returns the places in order.
func (open requests) sorted() []journal.Position {
	return slices.SortedFunc(maps.Keys(open), func(a, b journal.Position) int {
		return cmp.Or(cmp.Compare(a.Boot, b.Boot), cmp.Compare(a.Seq, b.Seq))
	})
}
