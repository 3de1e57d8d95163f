package backup

import (
	"context"
	"fmt"
	"time"

	"github.com/missionopsai/foundry/internal/evidence"
)

const (
	kitMost      = 2 * kitAge           // the kit is made anew every hour
	attestMost   = 365 * 24 * time.Hour // continuity plan, section 4.2: annually
	drillMost    = 365 * 24 * time.Hour // likewise
	reviewWithin = 24 * time.Hour       // of an opening; until then it is only unclear
)

// KitControl judges whether credentials can be reached by the emergency contact
// (O-56): a current kit outside of this node, a drill with nothing but it, and
// nobody let in without a review.
func (g *Glass) KitControl(ctx context.Context, progress func(string)) ([]evidence.Finding, error) {
	progress("looking at the emergency kit")
	s, err := g.standing(ctx)
	if err != nil {
		return nil, err
	}
	now := g.o.Clock()
	return []evidence.Finding{kitFinding(s, now), escrowFinding(s, now, false), openingFinding(s, now)}, nil
}

func kitFinding(s GlassStatus, now time.Time) evidence.Finding {
	f := evidence.Finding{Subject: "emergency kit", Covered: []string{"whether there is a recovery key, how old the kit is, and where copies lie"},
		NotCovered: []string{"whether the holders still have their shares"}}
	switch {
	case s.Set == "":
		f.Result, f.Reason = evidence.Fail, s.Reason+" "+s.Mend
	case !s.Ready && now.Sub(s.KitMade) > kitMost:
		f.Result, f.Reason = evidence.Fail, s.Reason+" "+s.Mend
	case !s.Ready:
		f.Result, f.Reason = evidence.Inconclusive, s.Reason
	default:
		f.Result, f.Reason = evidence.Pass, fmt.Sprintf("The kit of set %s was made at %s and lies at %d places.", s.Set, stamp(s.KitMade), len(s.Copies))
	}
	return f
}

func escrowFinding(s GlassStatus, now time.Time, byContact bool) evidence.Finding {
	f := evidence.Finding{Subject: "escrow drill", Covered: []string{"the last restore with nothing but the kit and shares that people entered"}, NotCovered: []string{"how people get to the machine"}}
	who := ""
	if byContact {
		f.Subject, who = "drill of the contact", " by the contact alone"
	}
	switch d := s.LastDrill; {
	case d == nil:
		f.Result, f.Reason = evidence.Inconclusive, "Nobody has tried the kit"+who+" yet: `foundry breakglass drill` does."
	case d.Set != s.Set:
		f.Result, f.Reason = evidence.Fail, "The last drill was with the shares of set "+d.Set+", and the kit is of set "+s.Set+": `foundry breakglass drill` tries the present one."
	case d.Outcome != Pass:
		f.Result, f.Reason = result(d.Outcome), "The last drill did not pass: "+d.Reason
	case now.Sub(d.At) > drillMost:
		f.Result, f.Reason = evidence.Fail, "The last drill that passed is of "+stamp(d.At)+", more than a year ago."
	default:
		f.Result, f.Reason = evidence.Pass, fmt.Sprintf("A restore%s on %s was proven, in %s.", who, stamp(d.At), span(d.Seconds))
	}
	return f
}

func result(o Outcome) evidence.Result {
	if o == Fail {
		return evidence.Fail
	}
	return evidence.Inconclusive
}

// openingFinding fails while somebody was let in and nobody has looked at it.
func openingFinding(s GlassStatus, now time.Time) evidence.Finding {
	f := evidence.Finding{Subject: "openings", Covered: []string{"every time that somebody got in with the shares, and whether it was reviewed"}, Result: evidence.Pass,
		NotCovered: []string{"kits that were opened on another machine"}, Reason: "Nobody got in with the shares without a review."}
	for _, o := range s.Openings {
		switch {
		case o.Reviewed != nil:
		case now.Sub(o.Opened) > reviewWithin:
			f.Result, f.Reason = evidence.Fail, "Opening "+o.ID.String()+" of "+stamp(o.Opened)+" was not reviewed: `foundry breakglass review` does."
			return f
		default:
			f.Result, f.Reason = evidence.Inconclusive, "Opening "+o.ID.String()+" of "+stamp(o.Opened)+" waits for its review."
		}
	}
	if s.Unanchored > 0 && f.Result == evidence.Pass {
		f.Result, f.Reason = evidence.Inconclusive, fmt.Sprintf("%d acts behind broken glass wait for the database.", s.Unanchored)
	}
	return f
}

// ContactsControl judges whether the emergency contact is identified and
// updated annually (O-57).
func (g *Glass) ContactsControl(ctx context.Context, progress func(string)) ([]evidence.Finding, error) {
	progress("reading when the contacts were attested")
	s, err := g.standing(ctx)
	if err != nil {
		return nil, err
	}
	f := evidence.Finding{Subject: "emergency contacts", Covered: []string{"how many the kit names, and when somebody last called them"}, NotCovered: []string{"who they are: that is sealed"}}
	switch {
	case s.Contacts == 0:
		f.Result, f.Reason = evidence.Fail, "The kit names no contact: make a key with `foundry breakglass create --contacts FILE`."
	case s.Attested == nil || s.Attested.Before(s.Created):
		f.Result, f.Reason = evidence.Fail, "Nobody has said that the contacts of the present kit were called and are right: `foundry breakglass attest` does."
	case g.o.Clock().Sub(*s.Attested) > attestMost:
		f.Result, f.Reason = evidence.Fail, "The contacts were last attested on "+stamp(*s.Attested)+", more than a year ago."
	default:
		f.Result, f.Reason = evidence.Pass, fmt.Sprintf("%d contacts were attested on %s.", s.Contacts, stamp(*s.Attested))
	}
	return []evidence.Finding{f}, nil
}

// ContactDrillControl judges whether the contact has access and a briefing
// (O-58): an exercise that the contact ran alone.
func (g *Glass) ContactDrillControl(ctx context.Context, progress func(string)) ([]evidence.Finding, error) {
	progress("reading the drills of the contact")
	s, err := g.standing(ctx)
	if err != nil {
		return nil, err
	}
	s.LastDrill = s.LastContactDrill
	return []evidence.Finding{escrowFinding(s, g.o.Clock(), true)}, nil
}
