package access

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// AccessReview is a campaign: every access of one organisation, or of the platform,
// has to be confirmed or withdrawn by a day, by somebody it does not belong to.
type AccessReview struct {
	ID           uuid.UUID    `json:"id"`
	Organisation uuid.UUID    `json:"organisation"` // zero: the platform
	Title        string       `json:"title"`
	StartedBy    string       `json:"started_by"`
	StartedAt    time.Time    `json:"started_at"`
	DueAt        time.Time    `json:"due_at"`
	Reviewers    string       `json:"reviewers"` // who must confirm
	Items        int          `json:"items"`
	Open         int          `json:"open"` // not decided yet
	Removed      int          `json:"removed"`
	Overdue      bool         `json:"overdue"`
	CompletedAt  *time.Time   `json:"completed_at,omitempty"`
	Entries      []ReviewItem `json:"entries,omitempty"` // only when shown
}

// ReviewItem is one access in a campaign.
type ReviewItem struct {
	Kind    string     `json:"kind"`
	Entry   string     `json:"entry"`
	Subject string     `json:"subject"`
	Summary string     `json:"summary"`
	Digest  string     `json:"digest"` // of the facts that are confirmed
	Result  string     `json:"result"` // keep, remove, or empty: open
	By      string     `json:"by,omitempty"`
	At      *time.Time `json:"at,omitempty"`
	Note    string     `json:"note,omitempty"`
}

// Results of an item.
const (
	ResultKeep   = "keep"
	ResultRemove = "remove" // somebody then has to take it away; the next campaign shows whether
)

// Bounds of a campaign.
const (
	ReviewShortest = time.Hour
	ReviewLongest  = 90 * 24 * time.Hour
)

func reviewers(org uuid.UUID) string {
	if org == uuid.Nil {
		return "platform-security"
	}
	return "administrators of the organisation"
}

// StartReview begins a campaign over what is in the register now.
func (s *Register) StartReview(ctx context.Context, p principal.Principal, org uuid.UUID, title string, within time.Duration) (AccessReview, error) {
	if err := text("title", title, 1, 200, "Name the review, for example: second half of 2026."); err != nil {
		return AccessReview{}, err
	}
	if within < ReviewShortest || within > ReviewLongest {
		return AccessReview{}, problem.New(problem.Invalid, "review-due", "A review takes an hour to 90 days.").WithField("due").WithMend("Use for example 14d.")
	}
	if err := s.Guard.Authorise(ctx, p, "register.review", policy.Resource{Organisation: org}); err != nil {
		return AccessReview{}, err
	}
	r, err := s.compute(ctx)
	if err != nil {
		return AccessReview{}, err
	}
	v := AccessReview{ID: uuid.Must(uuid.NewV7()), Organisation: org, Title: title, StartedBy: p.String()}
	var items []Access
	for _, e := range r.Entries {
		if e.Organisation == org && (e.Open || e.Unexplained != "") {
			items = append(items, e)
		}
	}
	err = s.DB.Org(ctx, org, func(tx pgx.Tx) error {
		if err := insertReview(ctx, tx, &v, within, items); err != nil {
			return err
		}
		return audit.Append(ctx, tx, p, org, "register.review", v.ID.String(), map[string]any{"items": len(items), "due": v.DueAt})
	})
	if err != nil {
		return v, err
	}
	return s.findReview(ctx, org, v.ID)
}

// Confirm records what somebody decided about one access. Nobody decides about
// their own.
func (s *Register) Confirm(ctx context.Context, p principal.Principal, review uuid.UUID, kind, entry, result, note string) (ReviewItem, error) {
	if result != ResultKeep && result != ResultRemove {
		return ReviewItem{}, problem.New(problem.Invalid, "review-result", fmt.Sprintf("%q is no result.", result)).WithField("result").WithMend("Use keep or remove.")
	}
	if err := note0(note); err != nil {
		return ReviewItem{}, err
	}
	v, err := s.visibleReview(ctx, p, review)
	if err != nil {
		return ReviewItem{}, err
	}
	if err := s.Guard.Authorise(ctx, p, "register.confirm", policy.Resource{ID: review.String(), Organisation: v.Organisation}); err != nil {
		return ReviewItem{}, err
	}
	var found *ReviewItem
	for i := range v.Entries {
		if v.Entries[i].Kind == kind && v.Entries[i].Entry == entry {
			found = &v.Entries[i]
		}
	}
	switch {
	case found == nil:
		return ReviewItem{}, problem.New(problem.NotFound, "review-entry", fmt.Sprintf("The review has no %s %s.", kind, entry)).WithMend("`foundry access review show` lists its entries.")
	case found.Subject == p.String():
		err := problem.New(problem.Denied, "review-own", "Nobody reviews their own access.").WithMend("Somebody else has to.")
		if e := audit.Deny(ctx, s.DB, p, v.Organisation, "register.confirm", review.String(), map[string]any{"code": err.Code}); e != nil {
			return ReviewItem{}, e
		}
		return ReviewItem{}, err
	case p.Kind != principal.Person && p.Kind != principal.Local || p.Grant != uuid.Nil:
		return ReviewItem{}, problem.New(problem.Denied, "review-person", "Only a person reviews access.").WithMend("Sign in.")
	}
	err = s.DB.Org(ctx, v.Organisation, func(tx pgx.Tx) error {
		if err := insertResult(ctx, tx, &v, found, p.String(), result, note); err != nil {
			return err
		}
		return audit.Append(ctx, tx, p, v.Organisation, "register.confirm", review.String(), map[string]any{"kind": kind, "entry": entry, "result": result})
	})
	if duplicate(err) {
		return *found, problem.New(problem.Conflict, "review-decided", "This entry is decided already.").WithMend("A later review can decide otherwise.")
	}
	if err != nil {
		return *found, err
	}
	if v, err = s.findReview(ctx, v.Organisation, review); err != nil {
		return *found, err
	}
	for _, item := range v.Entries {
		if item.Kind == kind && item.Entry == entry {
			return item, nil
		}
	}
	return *found, nil
}

// Reviews lists campaigns, newest first: of one organisation, or (the nil
// uuid, for the platform) of all.
func (s *Register) Reviews(ctx context.Context, p principal.Principal, org uuid.UUID) ([]AccessReview, error) {
	if !p.Platform() && org == uuid.Nil {
		org = p.Organisation
	}
	if err := s.Guard.Authorise(ctx, p, "register.read", policy.Resource{Organisation: org}); err != nil {
		return nil, err
	}
	out := []AccessReview{}
	read := func(tx pgx.Tx) (err error) { out, err = readReviews(ctx, tx, org); return err }
	if org == uuid.Nil {
		return out, s.DB.Read(ctx, read)
	}
	return out, s.DB.Org(ctx, org, read)
}

// ShowReview shows one campaign with its entries.
func (s *Register) ShowReview(ctx context.Context, p principal.Principal, id uuid.UUID) (AccessReview, error) {
	v, err := s.visibleReview(ctx, p, id)
	if err != nil {
		return v, err
	}
	if err := s.Guard.Authorise(ctx, p, "register.read", policy.Resource{ID: id.String(), Organisation: v.Organisation}); err != nil {
		return AccessReview{}, err
	}
	return v, nil
}

// overdue finds campaigns that are not done in time, and break-glass grants
// that nobody looked at.
func (s *Register) overdue(ctx context.Context, now time.Time) (out []Finding, err error) {
	err = s.DB.Read(ctx, func(tx pgx.Tx) error {
		reviews, err := readReviews(ctx, tx, uuid.Nil)
		if err != nil {
			return err
		}
		for _, v := range reviews {
			if v.Overdue {
				out = append(out, Finding{FindingOverdue, "review", v.ID.String(), v.Organisation,
					fmt.Sprintf("The review was due on %s; %d of %d entries are open.", v.DueAt.UTC().Format(time.DateOnly), v.Open, v.Items),
					"The " + v.Reviewers + " have to decide: `foundry access review show`."})
			}
		}
		rows, err := tx.Query(ctx, grantQuery+`WHERE g.kind = 'break-glass' AND v.id IS NULL AND g.requested_at < $1`, now.Add(-ReviewWithin))
		if err != nil {
			return err
		}
		grants, err := pgx.CollectRows(rows, scanGrant)
		for _, g := range grants {
			out = append(out, Finding{FindingUnreviewed, EntryGrant, g.ID.String(), g.Organisation,
				"The glass was broken, and nobody looked at what was done under it within 24 hours.", "Review it: `foundry grant review`."})
		}
		return err
	})
	return out, err
}
