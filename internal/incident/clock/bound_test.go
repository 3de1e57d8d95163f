package clock

import (
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
	"pgregory.net/rapid"
)

func span(t testing.TB, text string) plan.Span {
	t.Helper()
	s, err := plan.ParseSpan(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Starts and ends, each in the time of its place: worked out by hand on a calendar.
func TestABoundEndsWhenAPersonWithACalendarSays(t *testing.T) {
	for _, c := range []struct{ name, country, zone, from, within, want string }{
		{"72 hours go through a weekend", "GB", "Europe/London", "2026-11-20 17:45", "72h", "2026-11-23 17:45 GMT"},
		{"72 hours go through Easter", "GB", "Europe/London", "2026-04-02 18:00", "72h", "2026-04-05 18:00 BST"},
		{"72 hours lose one on the face when summer time begins", "GB", "Europe/London", "2026-03-28 22:00", "72h", "2026-03-31 23:00 BST"},
		{"72 hours gain one on the face when it ends", "GB", "Europe/London", "2026-10-23 12:00", "72h", "2026-10-26 11:00 GMT"},
		{"so in Helsinki", "FI", "Europe/Helsinki", "2026-10-24 23:30", "5h", "2026-10-25 03:30 EET"},
		{"4 hours from within the hour that comes twice", "DE", "Europe/Berlin", "2026-10-25 01:30", "4h", "2026-10-25 04:30 CET"},
		{"a day to 29 February", "GB", "Europe/London", "2028-02-28 12:00", "24h", "2028-02-29 12:00 GMT"},
		{"two days over 29 February", "GB", "Europe/London", "2028-02-28 12:00", "2 days", "2028-03-01 12:00 GMT"},
		{"a year from 29 February has 365 days", "GB", "Europe/London", "2028-02-29 12:00", "1 year", "2029-02-28 12:00 GMT"},
		{"over the end of the year", "FI", "Europe/Helsinki", "2027-12-31 23:30", "2h", "2028-01-01 01:30 EET"},
		{"two business days in a plain week", "GB", "Europe/London", "2026-11-23 09:15", "2 business days", "2026-11-25 09:15 GMT"},
		{"two business days over a weekend", "GB", "Europe/London", "2026-11-20 15:00", "2 business days", "2026-11-24 15:00 GMT"},
		{"one from a Saturday begins on Monday", "GB", "Europe/London", "2026-10-24 10:00", "1 business day", "2026-10-27 00:00 GMT"},
		{"over Easter in England", "GB", "Europe/London", "2026-04-02 15:00", "2 business days", "2026-04-08 15:00 BST"},
		{"over Easter in Germany", "DE", "Europe/Berlin", "2026-04-02 15:00", "2 business days", "2026-04-08 15:00 CEST"},
		{"over Easter in France, where Good Friday counts", "FR", "Europe/Paris", "2026-04-02 15:00", "2 business days", "2026-04-07 15:00 CEST"},
		{"over Christmas in England, with a substitute day", "GB", "Europe/London", "2026-12-24 09:00", "2 business days", "2026-12-30 09:00 GMT"},
		{"over Christmas in Germany", "DE", "Europe/Berlin", "2026-12-24 09:00", "2 business days", "2026-12-29 09:00 CET"},
		{"from Christmas Eve in Finland, which does not count", "FI", "Europe/Helsinki", "2026-12-24 09:00", "2 business days", "2026-12-30 00:00 EET"},
		{"over New Year in England, made up for on Monday", "GB", "Europe/London", "2027-12-31 15:00", "1 business day", "2028-01-04 15:00 GMT"},
		{"over Midsummer in Finland", "FI", "Europe/Helsinki", "2026-06-18 12:00", "1 business day", "2026-06-22 12:00 EEST"},
		{"over a weekend on which summer time begins", "GB", "Europe/London", "2026-03-27 16:00", "1 business day", "2026-03-30 16:00 BST"},
		{"a day of the Union", "EU", "Europe/Brussels", "2026-12-24 12:00", "1 business day", "2026-12-28 12:00 CET"},
		{"in a country of which only weekends are known", "XX", "UTC", "2026-12-24 12:00", "1 business day", "2026-12-25 12:00 UTC"},
		{"an evening in London is a holiday's morning in Berlin", "DE", "Europe/London", "2026-04-02 23:30", "1 business day", "2026-04-07 23:00 BST"},
	} {
		t.Run(c.name, func(t *testing.T) {
			zone, err := time.LoadLocation(c.zone)
			if err != nil {
				t.Fatal(err)
			}
			from, err := time.ParseInLocation("2006-01-02 15:04", c.from, zone)
			if err != nil {
				t.Fatal(err)
			}
			due, ok := Bound{Within: span(t, c.within), Calendar: c.country}.Due(from)
			if got := due.In(zone).Format("2006-01-02 15:04 MST"); !ok || got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestAWordBoundsNothing(t *testing.T) {
	for _, word := range []string{"regularly", "without undue delay", "as soon as possible"} {
		if due, ok := (Bound{Within: span(t, word)}).Due(time.Now()); ok {
			t.Errorf("%q ends at %s", word, due)
		}
	}
}

func someTime(t *rapid.T, name string) time.Time {
	return time.UnixMicro(rapid.Int64Range(1_577_836_800_000_000, 2_208_988_800_000_000).Draw(t, name)).UTC() // 2020 to 2040
}

func TestALaterStartNeverEndsEarlierAndMoreDaysNeverDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := CalendarOf(rapid.SampledFrom(append(Calendars(), "XX")).Draw(t, "country"))
		from := someTime(t, "from")
		later := from.Add(time.Duration(rapid.Int64Range(0, int64(200*time.Hour)).Draw(t, "later")))
		n := rapid.IntRange(1, 30).Draw(t, "days")
		due := c.Add(from, n)
		if due.Before(from.Add(time.Duration(n) * 22 * time.Hour)) {
			t.Fatalf("%d business days from %s are over at %s", n, from, due)
		}
		if c.Add(later, n).Before(due) {
			t.Fatalf("from %s: %s; from %s, later: %s", from, due, later, c.Add(later, n))
		}
		if !c.Add(from, n+1).After(due) {
			t.Fatalf("one day more ends no later: %s", due)
		}
		// as many business days lie between, whatever lies among them
		days := 0
		for day := midnight(from.In(c.zone())); day.Before(due); day = day.AddDate(0, 0, 1) {
			if c.Business(day) {
				days++
			}
		}
		if days < n || days > n+1 {
			t.Fatalf("%d business days begin between %s and %s, not %d", days, from, due, n)
		}
	})
}

func TestAJumpOfTheClockIsSaidAndASlewIsNot(t *testing.T) {
	at := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name   string
		wall   time.Duration
		run    time.Duration
		jumped bool
	}{
		{"nothing", time.Hour, time.Hour, false},
		{"a slew of NTP in an hour", time.Hour + 1800*time.Millisecond, time.Hour, false},
		{"a leap second", time.Minute - time.Second, time.Minute, false},
		{"forward by a day", 24*time.Hour + time.Minute, time.Minute, true},
		{"back by three seconds", 57 * time.Second, time.Minute, true},
		{"back before the start", -time.Hour, time.Minute, true},
	} {
		by, says, jumped := Jump(Pulse{at, time.Hour}, Pulse{at.Add(c.wall), time.Hour + c.run})
		if jumped != c.jumped || by != c.wall-c.run || jumped != (says != "") {
			t.Errorf("%s: by %s, jumped %v: %q", c.name, by, jumped, says)
		}
	}
}
