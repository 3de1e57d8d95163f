package notify

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// With no relay that answers and no database at all, somebody is reached by
// their other channel; an attempt that is repeated has the same id.
func TestWithMailAwaySomebodyIsReachedByTheirOtherChannelUnderOneID(t *testing.T) {
	hook := receive(t, func(n int, w http.ResponseWriter) {
		if n == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	c := Channels{Webhooks: []Webhook{hook.hook(t, "pager")}, People: []RotaPerson{{Name: "lead", Email: "lead@example.eu", Channels: []string{"mail", "pager"}}}}
	b, err := New(Options{Config: Config{From: "Foundry <foundry@example.eu>", Relays: []Relay{{Host: "127.0.0.1", Port: 1, TLS: PlainText}}}, Channels: c})
	if err != nil {
		t.Fatal(err)
	}
	m := Direct{ID: uuid.MustParse("0190a1b2-0000-7000-8000-000000000001"), Name: "lead", Subject: "It is\r\nBcc: x", Text: "down", Kind: "incident-clock", Written: time.Unix(1700000000, 0)}
	for i, want := range []State{Queued, Accepted} {
		got, err := b.SendNow(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if got.State != want || got.Channel != "webhook:pager" || len(got.Others) != 1 || !strings.HasPrefix(got.Others[0], "mail: ") {
			t.Errorf("attempt %d: %+v", i+1, got)
		}
	}
	all := hook.all()
	if len(all) != 2 || all[0].id != m.ID.String() || all[1].id != all[0].id || !all[1].signed || string(all[0].body) != string(all[1].body) {
		t.Errorf("the receiver got %+v", all)
	}
	if _, err := b.SendNow(t.Context(), Direct{ID: m.ID, Name: "nobody", Text: "x"}); err == nil {
		t.Error("somebody unknown was reached")
	}
}

func TestWhatTheChannelNeedsDecidesWhichIsTriedFirst(t *testing.T) {
	hook := receive(t, nil)
	c := Channels{MailNeeds: []string{"mail"}, Webhooks: []Webhook{hook.hook(t, "pager")}, People: []RotaPerson{{Name: "lead", Email: "lead@example.eu", Channels: []string{"mail", "pager"}}}}
	b, err := New(Options{Config: Config{Relays: []Relay{{Host: "127.0.0.1", Port: 1, TLS: PlainText}}}, Channels: c, Down: func() []string { return []string{"Mail"} }})
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.SendNow(t.Context(), Direct{ID: uuid.New(), Name: "lead", Text: "down", Kind: "k", Written: time.Unix(1, 0)})
	if err != nil || got.State != Accepted || len(got.Others) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}
