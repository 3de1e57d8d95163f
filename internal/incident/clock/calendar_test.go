package clock

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEasterIsWhereTheChurchesPutIt(t *testing.T) {
	for year, want := range map[int][2]string{
		2024: {"2024-03-31", "2024-05-05"}, 2025: {"2025-04-20", "2025-04-20"}, 2026: {"2026-04-05", "2026-04-12"},
		2027: {"2027-03-28", "2027-05-02"}, 2028: {"2028-04-16", "2028-04-16"}, 2038: {"2038-04-25", "2038-04-25"},
	} {
		if got := [2]string{Easter(year).Format(time.DateOnly), OrthodoxEaster(year).Format(time.DateOnly)}; got != want {
			t.Errorf("%d: got %v, want %v", year, got, want)
		}
	}
}

// The weekdays on which nobody works in England and Wales, as gov.uk/bank-holidays
// has published them.
func TestBankHolidaysOfEnglandAndWalesAreThosePublished(t *testing.T) {
	for _, year := range []string{
		"2020-01-01 2020-04-10 2020-04-13 2020-05-08 2020-05-25 2020-08-31 2020-12-25 2020-12-28",
		"2021-01-01 2021-04-02 2021-04-05 2021-05-03 2021-05-31 2021-08-30 2021-12-27 2021-12-28",
		"2022-01-03 2022-04-15 2022-04-18 2022-05-02 2022-06-02 2022-06-03 2022-08-29 2022-09-19 2022-12-26 2022-12-27",
		"2023-01-02 2023-04-07 2023-04-10 2023-05-01 2023-05-08 2023-05-29 2023-08-28 2023-12-25 2023-12-26",
		"2024-01-01 2024-03-29 2024-04-01 2024-05-06 2024-05-27 2024-08-26 2024-12-25 2024-12-26",
		"2025-01-01 2025-04-18 2025-04-21 2025-05-05 2025-05-26 2025-08-25 2025-12-25 2025-12-26",
		"2026-01-01 2026-04-03 2026-04-06 2026-05-04 2026-05-25 2026-08-31 2026-12-25 2026-12-28",
		"2027-01-01 2027-03-26 2027-03-29 2027-05-03 2027-05-31 2027-08-30 2027-12-27 2027-12-28",
		"2028-01-03 2028-04-14 2028-04-17 2028-05-01 2028-05-29 2028-08-28 2028-12-25 2028-12-26",
	} {
		want := strings.Fields(year)
		if got := daysOff("GB", want[0][:4]); !slices.Equal(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	}
}

func TestHolidaysOfOtherCountriesFallWhereTheirLawsSay(t *testing.T) {
	for country, want := range map[string]string{
		"DE": "2026-01-01 2026-04-03 2026-04-06 2026-05-01 2026-05-14 2026-05-25 2026-12-25",
		"FI": "2026-01-01 2026-01-06 2026-04-03 2026-04-06 2026-05-01 2026-05-14 2026-06-19 2026-12-24 2026-12-25",
		"FR": "2026-01-01 2026-04-06 2026-05-01 2026-05-08 2026-05-14 2026-05-25 2026-07-14 2026-11-11 2026-12-25",
		"GR": "2026-01-01 2026-01-06 2026-02-23 2026-03-25 2026-04-10 2026-04-13 2026-05-01 2026-06-01 2026-10-28 2026-12-25",
		"NL": "2026-01-01 2026-04-06 2026-05-14 2026-05-25 2026-12-25",
		"PL": "2026-01-01 2026-01-06 2026-04-06 2026-05-01 2026-06-04 2026-11-11 2026-12-24 2026-12-25",
		"EU": "2026-01-01 2026-12-25",
		"XX": "",
	} {
		if got := daysOff(country, "2026"); strings.Join(got, " ") != want {
			t.Errorf("%s: got  %v\nwant %v", country, got, want)
		}
	}
}

func TestEveryCountryHasAZoneAndHolidaysThatFallSomewhere(t *testing.T) {
	if got := Calendars(); len(got) != 29 {
		t.Fatalf("got %d calendars, want the 27 of the Union, GB and EU: %v", len(got), got)
	}
	for country, c := range calendars() {
		if c.Zone == nil {
			t.Errorf("%s has no zone", country)
		}
		for _, h := range c.rules {
			hits := 0
			for day := time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC); day.Year() == 2029; day = day.AddDate(0, 0, 1) {
				if h.on(day) {
					hits++
				}
			}
			if hits != 1 {
				t.Errorf("%s: the rule %q falls on %d days of 2029", country, h.rule, hits)
			}
		}
	}
}

func TestAHolidayHasAName(t *testing.T) {
	for day, want := range map[string]string{"2026-12-28": "Boxing Day (substitute day)", "2022-09-19": "State Funeral of Queen Elizabeth II", "2026-05-04": "Early May bank holiday"} {
		at, _ := time.Parse(time.DateOnly, day)
		if got, ok := CalendarOf("gb").Holiday(at); !ok || got != want {
			t.Errorf("%s: got %q, want %q", day, got, want)
		}
	}
}

// daysOff lists the weekdays of a year that are no business days.
func daysOff(country, year string) (out []string) {
	c := CalendarOf(country)
	day, _ := time.ParseInLocation(time.DateOnly, year+"-01-01", c.zone())
	for y := day.Year(); day.Year() == y; day = day.AddDate(0, 0, 1) {
		if day.Weekday() != time.Saturday && day.Weekday() != time.Sunday && !c.Business(day) {
			out = append(out, day.Format(time.DateOnly))
		}
	}
	return out
}
