package notify

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/missionopsai/foundry/internal/config"
)

func rotaOf(t testing.TB, zone, first, at string, weeks int, order ...string) Rota {
	t.Helper()
	day, err := time.Parse(time.DateOnly, first)
	if err != nil {
		t.Fatal(err)
	}
	r, err := RotaConfig{TimeZone: zone, First: config.Date{Time: day}, At: at, Weeks: weeks, Order: order}.rota()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func moment(t testing.TB, text string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestWhoIsOnCallFollowsTheClockOnTheWall(t *testing.T) {
	r := rotaOf(t, "Europe/Berlin", "2026-10-19", "09:00", 1, "ada", "grace", "edsger")
	for at, want := range map[string]string{
		"2026-10-19T06:59:59Z":      "edsger", // before the first hand-over: the rota has no beginning
		"2026-10-19T07:00:00Z":      "ada",
		"2026-10-26T07:59:59Z":      "ada", // summer time ended on the 25th: the week is an hour longer
		"2026-10-26T08:00:00Z":      "grace",
		"2026-11-02T09:00:00+01:00": "edsger",
		"2026-11-09T09:00:00+01:00": "ada",
		"2027-03-29T06:59:59Z":      "grace", // summer time again: an hour shorter
		"2027-03-29T07:00:00Z":      "edsger",
	} {
		if got := r.At(moment(t, at), nil).Person; got != want {
			t.Errorf("%s: %s, not %s", at, got, want)
		}
	}
	// 02:30 does not exist on the day that summer time begins, and exists twice
	// on the day that it ends.
	for _, first := range []string{"2027-03-28", "2026-10-25"} {
		r := rotaOf(t, "Europe/Berlin", first, "02:30", 1, "ada", "grace")
		s := r.Scheduled(r.start(0))
		if s.Person != "ada" || !s.Begins.Equal(r.start(0)) || r.Scheduled(s.Begins.Add(-1)).Person != "grace" {
			t.Errorf("%s: %+v", first, s)
		}
	}
}

func TestOfTwoOverridesTheLaterMadeCounts(t *testing.T) {
	r := rotaOf(t, "UTC", "2026-11-02", "09:00", 1, "ada", "grace")
	at := moment(t, "2026-11-04T12:00:00Z")
	long := Override{Person: "edsger", Begins: at.Add(-time.Hour), Ends: at.Add(24 * time.Hour), Made: at.Add(-48 * time.Hour)}
	short := Override{Person: "barbara", Begins: at, Ends: at.Add(time.Hour), Made: at.Add(-time.Hour)}
	for _, overrides := range [][]Override{{long, short}, {short, long}} {
		var got []string
		for _, s := range r.Shifts(at.Add(-2*time.Hour), overrides, 5) {
			got = append(got, s.Person)
		}
		if want := []string{"ada", "edsger", "barbara", "edsger", "ada"}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
}

var zones = []string{"UTC", "Europe/Berlin", "Europe/Helsinki", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "America/Sao_Paulo"}

func drawRota(r *rapid.T) Rota {
	zone, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(r, "zone"))
	if err != nil {
		r.Fatal(err)
	}
	order := []string{"ada", "grace", "edsger", "barbara", "donald"}[:rapid.IntRange(1, 5).Draw(r, "people")]
	return Rota{zone: zone, order: order, weeks: rapid.IntRange(1, 8).Draw(r, "weeks"), hour: rapid.IntRange(0, 23).Draw(r, "hour"), min: rapid.IntRange(0, 59).Draw(r, "minute"),
		first: time.Unix(rapid.Int64Range(0, 4e9).Draw(r, "first"), 0).UTC()}
}

// At every instant exactly one person is on call, and a shift says the truth
// about every instant in it.
func TestAtEveryInstantExactlyOnePersonIsOnCall(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		rota := drawRota(r)
		at := time.Unix(rapid.Int64Range(-1e9, 8e9).Draw(r, "at"), rapid.Int64Range(0, 999_999_999).Draw(r, "ns"))
		var overrides []Override
		for i := range rapid.IntRange(0, 5).Draw(r, "overrides") {
			begins := at.Add(time.Duration(rapid.Int64Range(-400, 400).Draw(r, "begins")) * time.Hour)
			overrides = append(overrides, Override{Person: rapid.SampledFrom([]string{"x", "y", "z"}).Draw(r, "who"), Begins: begins,
				Ends: begins.Add(time.Duration(rapid.Int64Range(1, 500).Draw(r, "long")) * time.Hour), Made: at.Add(time.Duration(rapid.IntRange(0, 3).Draw(r, "made")) * time.Minute).Add(time.Duration(i%2) * time.Second)})
		}
		s := rota.At(at, overrides)
		if s.Person == "" || s.Begins.After(at) || !s.Ends.After(at) {
			r.Fatalf("%v is not in %+v", at, s)
		}
		inside := s.Begins.Add(time.Duration(rapid.Int64Range(0, int64(s.Ends.Sub(s.Begins))-1).Draw(r, "inside")))
		if got := rota.At(inside, overrides); got.Person != s.Person {
			r.Fatalf("the shift of %s holds %v, at which it is %s", s.Person, inside, got.Person)
		}
		if again := rota.At(at, overrides); again != s {
			r.Fatalf("%+v and then %+v", s, again)
		}
	})
}

// Without overrides everybody has the same number of turns, in order.
func TestEverybodyHasTheirTurn(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		rota := drawRota(r)
		at := time.Unix(rapid.Int64Range(-1e9, 8e9).Draw(r, "at"), 0)
		shifts := rota.Shifts(at, nil, 2*len(rota.order)+1)
		for i, s := range shifts[1:] {
			if !s.Begins.Equal(shifts[i].Ends) || s.Person != rota.Next(shifts[i].Person) {
				r.Fatalf("%+v after %+v", s, shifts[i])
			}
			turn := time.Duration(rota.weeks) * 7 * 24 * time.Hour
			if d := s.Ends.Sub(s.Begins) - turn; d.Abs() > 25*time.Hour { // daylight saving; Apia once left out a day
				r.Fatalf("a turn of %v", s.Ends.Sub(s.Begins))
			}
		}
	})
}

func TestTheChannelThatDoesNotDependOnTheOutageIsChosen(t *testing.T) {
	c := Channels{MailNeeds: []string{"Email & Client Communications"}, Webhooks: []Webhook{{Name: "chat", Needs: []string{"Primary API"}}, {Name: "sms"}}}
	for name, x := range map[string]struct {
		have, down, want []string
	}{
		"nothing is down":              {[]string{"mail", "sms"}, nil, []string{"mail"}},
		"something else is down":       {[]string{"mail", "sms"}, []string{"Primary API"}, []string{"mail"}},
		"mail is part of the outage":   {[]string{"mail", "chat", "sms"}, []string{"email & client communications"}, []string{"chat"}},
		"so is the second":             {[]string{"mail", "chat", "sms"}, []string{"Email & Client Communications", "Primary API"}, []string{"sms"}},
		"all are: each is tried":       {[]string{"mail", "chat"}, []string{"Email & Client Communications", "Primary API"}, []string{"mail", "chat"}},
		"a channel that needs nothing": {[]string{"sms", "mail"}, []string{"Email & Client Communications"}, []string{"sms"}},
	} {
		if got := c.Choose(x.have, x.down); !slices.Equal(got, x.want) {
			t.Errorf("%s: %v, not %v", name, got, x.want)
		}
	}
}
