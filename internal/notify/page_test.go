package notify

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/problem"
)

// phones are three people whose only channel is a webhook of their own.
type phones struct {
	*Outbox
	at   map[string]*receiver
	down []string
	mu   sync.Mutex
}

func called(t testing.TB, answer func(n int, w http.ResponseWriter)) *phones {
	t.Helper()
	p := &phones{at: map[string]*receiver{}}
	c := Channels{OnCall: &RotaConfig{TimeZone: "UTC", First: config.Date{Time: time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)}, Order: []string{"ada", "grace"}}}
	for _, name := range []string{"ada", "grace", "edsger"} {
		r := receive(t, answer)
		h := r.hook(t, name)
		h.Only = "pages"
		if name == "ada" {
			h.Needs = []string{"Telephony"}
		}
		p.at[name] = r
		c.Webhooks = append(c.Webhooks, h)
		c.People = append(c.People, RotaPerson{Name: name, Channels: []string{name}})
	}
	radio := receive(t, answer)
	h := radio.hook(t, "radio")
	h.Only = "pages"
	p.at["radio"] = radio
	c.Webhooks = append(c.Webhooks, h)
	c.People[0].Channels = []string{"ada", "radio"}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	var err error
	p.Outbox, err = New(Options{Channels: c, Seal: seal, Open: open, Hash: keyed,
		Clock:    func() time.Time { return time.Date(2026, 11, 4, 3, 0, 0, 0, time.UTC) }, // ada's week
		TakeLink: func(token string) string { return "https://ai.example.eu/oncall#" + token },
		Down:     func() []string { p.mu.Lock(); defer p.mu.Unlock(); return p.down }})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *phones) open(t testing.TB, d *db.DB) []Page {
	t.Helper()
	out, err := p.OnCall(t.Context(), d, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return out.Open
}

// wait moves a call's next round to now, as if its time had passed.
func wait(t testing.TB, d *db.DB, id uuid.UUID) {
	t.Helper()
	err := d.Org(t.Context(), uuid.Nil, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `UPDATE pages SET next_at = now() WHERE id = $1 AND taken_at IS NULL`, id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ring makes the calls that are due and sends them.
func (p *phones) ring(t testing.TB, d *db.DB) {
	t.Helper()
	o := SenderOptions{DB: d, Log: dbtest.Log(t), Wait: func(int) time.Duration { return time.Hour }}
	if err := p.call(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if err := p.round(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

func (p *phones) rang() string {
	var out []string
	for name, r := range p.at {
		for range r.all() {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (r *receiver) link(t testing.TB) string {
	t.Helper()
	all := r.all()
	if len(all) == 0 {
		t.Fatal("nobody rang")
	}
	var body struct{ Data map[string]string }
	if err := json.Unmarshal(all[len(all)-1].body, &body); err != nil {
		t.Fatal(err)
	}
	_, token, _ := strings.Cut(body.Data["link"], "#")
	return token
}

func TestWhoeverIsOnCallIsCalledThenTheNextThenEverybodyForEver(t *testing.T) {
	d, p := dbtest.New(t), called(t, nil)
	raise(t, d, p.Outbox, Critical, "audit-log.stopped")
	p.ring(t, d)
	if p.rang() != "ada" {
		t.Fatal(p.rang())
	}
	p.ring(t, d) // nothing is due: nobody is called again
	id := p.open(t, d)[0].ID
	for i, want := range []string{"ada grace", "ada ada edsger grace grace", "ada ada ada edsger edsger grace grace grace"} {
		wait(t, d, id)
		p.ring(t, d)
		if p.rang() != want {
			t.Fatalf("round %d: %s", i+2, p.rang())
		}
	}
	open := p.open(t, d)
	if len(open) != 1 || open[0].Level != 4 || open[0].Next == nil || len(open[0].Calls) != 8 {
		t.Errorf("%+v", open)
	}
}

func TestACallThatIsTakenByItsLinkEndsOnceAndIsAudited(t *testing.T) {
	d, p := dbtest.New(t), called(t, nil)
	raise(t, d, p.Outbox, Critical, "audit-log.stopped")
	p.ring(t, d)
	token := p.at["ada"].link(t)
	if _, who, err := p.LinkedPage(t.Context(), d, token); err != nil || who != "ada" || len(p.open(t, d)) != 1 {
		t.Fatalf("looking takes it: %s %v", who, err)
	}
	got, err := p.TakeByLink(t.Context(), d, token)
	if err != nil || got.By != "ada" || got.Taken == nil || got.Next != nil {
		t.Fatalf("%+v %v", got, err)
	}
	if _, err := p.TakeByLink(t.Context(), d, token); problem.From(err).Code != "page-taken" {
		t.Errorf("twice: %v", err)
	}
	wait(t, d, got.ID)
	p.ring(t, d)
	if p.rang() != "ada" || len(p.open(t, d)) != 0 {
		t.Errorf("it rings on: %s", p.rang())
	}
	// The same alarm, later, is a new call.
	if err := d.Org(t.Context(), uuid.Nil, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `UPDATE alarms SET first_at = now() - interval '1 day'`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	raise(t, d, p.Outbox, Critical, "audit-log.stopped")
	p.ring(t, d)
	if p.rang() != "ada ada" {
		t.Error(p.rang())
	}
}

func TestALinkThatWasNotMadeHereTakesNothing(t *testing.T) {
	d, p := dbtest.New(t), called(t, nil)
	raise(t, d, p.Outbox, Critical, "audit-log.stopped")
	p.ring(t, d)
	good := p.at["ada"].link(t)
	parts := strings.Split(good, ".")
	for _, token := range []string{"", ".", "..", good[:len(good)-1], good + "A", parts[0] + ".grace." + parts[2], uuid.NewString() + ".ada." + parts[2], parts[0] + "..", strings.ToUpper(good)} {
		if _, err := p.TakeByLink(t.Context(), d, token); problem.From(err).Code != "page-link" {
			t.Errorf("%q: %v", token, err)
		}
	}
	if len(p.open(t, d)) != 1 {
		t.Error("it was taken")
	}
}

func FuzzATokenIsReadOnlyIfItWasMadeHere(f *testing.F) {
	b, err := New(Options{Seal: seal, Open: open, Hash: keyed})
	if err != nil {
		f.Fatal(err)
	}
	id := uuid.New()
	f.Add(b.token(id, "ada"))
	f.Add(id.String() + ".ada.")
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		if page, name, ok := b.tokenOf(token); ok && b.token(page, name) != token {
			t.Fatalf("%q", token)
		}
	})
}

func TestAChannelInTheOutageIsLeftOut(t *testing.T) {
	d, p := dbtest.New(t), called(t, nil)
	p.down = []string{"Telephony"}
	raise(t, d, p.Outbox, Critical, "audit-log.stopped")
	p.ring(t, d)
	if p.rang() != "radio" {
		t.Error(p.rang())
	}
}

func TestAnOverrideChangesWhoIsCalled(t *testing.T) {
	d, p := dbtest.New(t), called(t, nil)
	now := p.clock()
	err := d.Org(t.Context(), uuid.Nil, func(tx pgx.Tx) error {
		_, err := insertOverride(t.Context(), tx, Override{Person: "edsger", Begins: now.Add(-time.Hour), Ends: now.Add(time.Hour)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	raise(t, d, p.Outbox, Critical, "audit-log.stopped")
	p.ring(t, d)
	if p.rang() != "edsger" {
		t.Error(p.rang())
	}
}

func TestACallWhoseAnswerIsLostIsShownAsIndeterminateAndGoesOn(t *testing.T) {
	d := dbtest.New(t)
	p := called(t, func(int, http.ResponseWriter) { panic(http.ErrAbortHandler) })
	raise(t, d, p.Outbox, Critical, "audit-log.stopped")
	p.ring(t, d)
	open := p.open(t, d)
	if len(open) != 1 || len(open[0].Calls) != 1 || open[0].Calls[0].State != Indeterminate {
		t.Fatalf("%+v", open)
	}
	wait(t, d, open[0].ID)
	p.ring(t, d)
	if p.rang() != "ada grace" {
		t.Error(p.rang())
	}
}

func TestManyNodesMakeARoundOnce(t *testing.T) {
	d, p := dbtest.New(t), called(t, nil)
	raise(t, d, p.Outbox, Critical, "audit-log.stopped")
	o := SenderOptions{DB: d, Log: dbtest.Log(t)}
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if err := p.call(t.Context(), o); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if open := p.open(t, d); len(open) != 1 || open[0].Level != 1 || len(open[0].Calls) != 1 {
		t.Errorf("%+v", open)
	}
}

func TestOnlyWhatIsCriticalCallsPeople(t *testing.T) {
	d, p := dbtest.New(t), called(t, nil)
	raise(t, d, p.Outbox, Warning, "budget.b-1")
	p.ring(t, d)
	if len(p.open(t, d)) != 0 || p.rang() != "" {
		t.Error(p.rang())
	}
	raise(t, d, p.Outbox, Critical, "budget.b-1") // it became worse
	raise(t, d, p.Outbox, Critical, "budget.b-1") // again: counted
	p.ring(t, d)
	if len(p.open(t, d)) != 1 || p.rang() != "ada" {
		t.Error(p.rang())
	}
}
