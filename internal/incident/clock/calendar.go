package clock

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Calendar is which days count in a country. The zero calendar knows weekends
// alone, in UTC.
type Calendar struct {
	Country string
	Zone    *time.Location
	rules   []holiday
	once    map[string]string // date → name: days that were given or moved once
	moved   bool              // a holiday on a weekend is made up for on the next day that counts (England and Wales)
}

// CalendarOf is the calendar of a country by its ISO 3166-1 code: GB (England
// and Wales), the members of the European Union, and EU for the days that all
// of them keep. Of any other it knows weekends alone.
//
// Holidays of a whole country count; those of its states, regions and trades
// do not, nor those that a government may still give. A holiday too few ends a
// clock early, one too many would end it after a promise was broken.
func CalendarOf(country string) Calendar {
	c, ok := calendars()[strings.ToUpper(country)]
	if !ok {
		return Calendar{Country: country}
	}
	return c
}

// Calendars lists the countries whose holidays are known.
func Calendars() []string { return slices.Sorted(maps.Keys(calendars())) }

// Holiday names the holiday on a day, by the date that it has in its zone.
func (c Calendar) Holiday(t time.Time) (string, bool) {
	if c.Country == "EU" {
		return everywhere(t)
	}
	if name, ok := c.once[t.Format(time.DateOnly)]; ok {
		return name, name != ""
	}
	for _, h := range c.rules {
		if h.on(t) {
			return h.name, true
		}
	}
	if c.moved {
		return c.substitute(t)
	}
	return "", false
}

// everywhere is a holiday that every member of the European Union keeps.
func everywhere(t time.Time) (name string, ok bool) {
	for country, c := range calendars() {
		if country == "GB" || country == "EU" {
			continue
		}
		if name, ok = c.Holiday(t); !ok {
			return "", false
		}
	}
	return name, ok
}

// substitute is the weekday that makes up for a holiday on a weekend: the
// first after it that is neither a weekend, a holiday, nor already one.
func (c Calendar) substitute(t time.Time) (string, bool) {
	if t.Weekday() == time.Saturday || t.Weekday() == time.Sunday {
		return "", false
	}
	taken := map[string]string{}
	for back := 7; back >= 1; back-- { // the holidays of the week before, the oldest first
		day := t.AddDate(0, 0, -back)
		i := slices.IndexFunc(c.rules, func(h holiday) bool { return h.on(day) })
		if i < 0 || day.Weekday() != time.Saturday && day.Weekday() != time.Sunday {
			continue
		}
		for day = day.AddDate(0, 0, 1); ; day = day.AddDate(0, 0, 1) {
			date := day.Format(time.DateOnly)
			fixed := slices.ContainsFunc(c.rules, func(h holiday) bool { return h.on(day) })
			if day.Weekday() != time.Saturday && day.Weekday() != time.Sunday && !fixed && taken[date] == "" {
				taken[date] = c.rules[i].name + " (substitute day)"
				break
			}
		}
	}
	name, ok := taken[t.Format(time.DateOnly)]
	return name, ok
}

// holiday is one rule: a date ("12-25"), days from Easter Sunday ("E+1"; "O+1"
// from the Orthodox one), a weekday of a month ("mon1-05": the first Monday of
// May; "mon-1-08": the last of August), or the weekday on or after a date
// ("sat>06-20").
type holiday struct {
	rule, name string
	since      int // first year; 0: always
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func (h holiday) on(t time.Time) bool {
	if t.Year() < h.since {
		return false
	}
	switch {
	case h.rule[0] == 'E' || h.rule[0] == 'O':
		n, _ := strconv.Atoi(h.rule[1:])
		e := Easter(t.Year())
		if h.rule[0] == 'O' {
			e = OrthodoxEaster(t.Year())
		}
		return sameDay(t, e.AddDate(0, 0, n))
	case h.rule[0] >= '0' && h.rule[0] <= '9':
		return t.Format("01-02") == h.rule
	}
	if slices.Index(weekdays, h.rule[:3]) != int(t.Weekday()) {
		return false
	}
	if from, ok := strings.CutPrefix(h.rule[3:], ">"); ok {
		first, _ := time.Parse("2006-01-02", strconv.Itoa(t.Year())+"-"+from)
		day := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
		return !day.Before(first) && day.Before(first.AddDate(0, 0, 7))
	}
	which, month := h.rule[3:len(h.rule)-3], h.rule[len(h.rule)-2:]
	if t.Format("01") != month {
		return false
	}
	if which == "-1" {
		return t.AddDate(0, 0, 7).Month() != t.Month()
	}
	return (t.Day()-1)/7+1 == int(which[0]-'0')
}

func sameDay(a, b time.Time) bool { return a.YearDay() == b.YearDay() && a.Year() == b.Year() }

// Easter is Easter Sunday of the western churches, by the method that J. Meeus
// gives for the Gregorian calendar (Astronomical Algorithms, chapter 8).
func Easter(year int) time.Time {
	a, b, c := year%19, year/100, year%100
	d, e := b/4, b%4
	f := (b + 8) / 25
	g := (b - f + 1) / 3
	h := (19*a + b - d - g + 15) % 30
	i, k := c/4, c%4
	l := (32 + 2*e + 2*i - h - k) % 7
	m := (a + 11*h + 22*l) / 451
	n := h + l - 7*m + 114
	return time.Date(year, time.Month(n/31), n%31+1, 0, 0, 0, 0, time.UTC)
}

// OrthodoxEaster is Easter Sunday of the eastern churches in the Gregorian
// calendar (the same chapter, for the Julian one; 13 days between them until 2099).
func OrthodoxEaster(year int) time.Time {
	a, b, c := year%4, year%7, year%19
	d := (19*c + 15) % 30
	e := (2*a + 4*b - d + 34) % 7
	n := d + e + 114
	return time.Date(year, time.Month(n/31), n%31+1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, 13)
}

var calendars = sync.OnceValue(func() map[string]Calendar {
	out := map[string]Calendar{}
	for _, line := range strings.Split(strings.TrimSpace(countries), "\n") {
		f := strings.Fields(line)
		zone, err := time.LoadLocation(f[1])
		if err != nil {
			panic("clock: no zone " + f[1]) // embedded: see bound.go
		}
		c := Calendar{Country: f[0], Zone: zone}
		for _, rule := range f[2:] {
			rule, since, _ := strings.Cut(rule, "@")
			rule, name, _ := strings.Cut(rule, "=")
			h := holiday{rule: rule, name: named(rule, name)}
			h.since, _ = strconv.Atoi(since)
			c.rules = append(c.rules, h)
		}
		out[c.Country] = c
	}
	gb := out["GB"]
	gb.moved, gb.once = true, proclaimed
	out["GB"] = gb
	out["EU"] = Calendar{Country: "EU", Zone: out["BE"].Zone}
	return out
})

func named(rule, name string) string {
	if name != "" {
		return strings.ReplaceAll(name, "_", " ")
	}
	if known := common[rule]; known != "" {
		return known
	}
	return "public holiday"
}

// common are holidays that many countries share.
var common = map[string]string{
	"01-01": "New Year's Day", "01-06": "Epiphany", "E-3": "Maundy Thursday", "E-2": "Good Friday", "E+1": "Easter Monday", "05-01": "1 May",
	"E+39": "Ascension Day", "E+50": "Whit Monday", "E+60": "Corpus Christi", "O-2": "Good Friday", "O+1": "Easter Monday", "O+50": "Whit Monday",
	"08-15": "Assumption Day", "11-01": "All Saints' Day", "12-08": "Immaculate Conception", "12-24": "Christmas Eve", "12-25": "Christmas Day", "12-26": "second day of Christmas",
}

// proclaimed are days of England and Wales that were given or moved once, by
// royal proclamation under section 1(2) and (3) of the Banking and Financial
// Dealings Act 1971; "" is one that was moved away.
var proclaimed = map[string]string{
	"2020-05-04": "", "2020-05-08": "Early May bank holiday (VE Day)",
	"2022-05-30": "", "2022-06-02": "Spring bank holiday", "2022-06-03": "Platinum Jubilee",
	"2022-09-19": "State Funeral of Queen Elizabeth II", "2023-05-08": "Coronation of King Charles III",
}

// countries are the rules: code, zone, holidays (rule=name@first year).
//
// England and Wales: Banking and Financial Dealings Act 1971, schedule 1, with
// Good Friday and Christmas Day by common law; gov.uk/bank-holidays lists the
// days. Germany: the days that all sixteen states keep (each by its Feiertagsgesetz;
// 3 October by article 2(2) of the Unification Treaty). Finland: the days on
// which a time limit does not end by act 150/1930, section 5, with the church's
// days of act 1054/1993. The others: each country's act on public holidays, of
// which the Commission lists the days in the Official Journal every year
// (Regulation 1182/71, article 2(1)).
const countries = `
GB Europe/London 01-01 E-2 E+1 mon1-05=Early_May_bank_holiday mon-1-05=Spring_bank_holiday mon-1-08=Summer_bank_holiday 12-25 12-26=Boxing_Day
DE Europe/Berlin 01-01 E-2 E+1 05-01 E+39 E+50 10-03=German_Unity_Day 12-25 12-26
FI Europe/Helsinki 01-01 01-06 E-2 E+1 05-01 E+39 fri>06-19=Midsummer_Eve sat>06-20=Midsummer_Day sat>10-31=All_Saints'_Day 12-06=Independence_Day 12-24 12-25 12-26
AT Europe/Vienna 01-01 01-06 E+1 05-01 E+39 E+50 E+60 08-15 10-26=National_Day 11-01 12-08 12-25 12-26
BE Europe/Brussels 01-01 E+1 05-01 E+39 E+50 07-21=National_Day 08-15 11-01 11-11=Armistice_Day 12-25
BG Europe/Sofia 01-01 03-03=Liberation_Day O-2 O+1 05-01 05-06=Saint_George's_Day 05-24=Day_of_Letters 09-06=Unification_Day 09-22=Independence_Day 12-24 12-25 12-26
HR Europe/Zagreb 01-01 01-06 E+1 05-01 05-30=Statehood_Day@2020 E+60 06-22=Anti-Fascist_Struggle_Day 08-05=Victory_Day 08-15 11-01 11-18=Remembrance_Day@2020 12-25 12-26
CY Asia/Nicosia 01-01 01-06 O-48=Clean_Monday 03-25=Independence_of_Greece 04-01=National_Day O-2 O+1 05-01 O+50 08-15 10-01=Independence_Day 10-28=Ohi_Day 12-25 12-26
CZ Europe/Prague 01-01 E-2@2016 E+1 05-01 05-08=Victory_Day 07-05=Cyril_and_Methodius 07-06=Jan_Hus_Day 09-28=Statehood_Day 10-28=Independence_Day 11-17=Freedom_Day 12-24 12-25 12-26
DK Europe/Copenhagen 01-01 E-3 E-2 E+1 E+39 E+50 12-25 12-26
EE Europe/Tallinn 01-01 02-24=Independence_Day E-2 05-01 06-23=Victory_Day 06-24=Midsummer_Day 08-20=Independence_Restored 12-24 12-25 12-26
ES Europe/Madrid 01-01 01-06 E-2 05-01 08-15 10-12=National_Day 11-01 12-06=Constitution_Day 12-08 12-25
FR Europe/Paris 01-01 E+1 05-01 05-08=Victory_Day E+39 E+50 07-14=National_Day 08-15 11-01 11-11=Armistice_Day 12-25
GR Europe/Athens 01-01 01-06 O-48=Clean_Monday 03-25=Independence_Day O-2 O+1 05-01 O+50 08-15 10-28=Ohi_Day 12-25 12-26
HU Europe/Budapest 01-01 03-15=National_Day E-2@2017 E+1 05-01 E+50 08-20=State_Foundation_Day 10-23=National_Day 11-01 12-25 12-26
IE Europe/Dublin 01-01 03-17=Saint_Patrick's_Day E+1 mon1-05=May_holiday mon1-06=June_holiday mon1-08=August_holiday mon-1-10=October_holiday 12-25 12-26
IT Europe/Rome 01-01 01-06 E+1 04-25=Liberation_Day 05-01 06-02=Republic_Day 08-15 11-01 12-08 12-25 12-26
LT Europe/Vilnius 01-01 02-16=State_Restored 03-11=Independence_Restored E+1 05-01 06-24=Saint_John's_Day 07-06=Statehood_Day 08-15 11-01 11-02=All_Souls'_Day@2020 12-24 12-25 12-26
LU Europe/Luxembourg 01-01 E+1 05-01 05-09=Europe_Day@2019 E+39 E+50 06-23=National_Day 08-15 11-01 12-25 12-26
LV Europe/Riga 01-01 E-2 E+1 05-01 05-04=Independence_Restored 06-23=Midsummer_Eve 06-24=Midsummer_Day 11-18=Proclamation_Day 12-24 12-25 12-26 12-31=New_Year's_Eve
MT Europe/Malta 01-01 02-10=Saint_Paul's_Shipwreck 03-19=Saint_Joseph's_Day 03-31=Freedom_Day E-2 05-01 06-07=Sette_Giugno 06-29=Saint_Peter_and_Saint_Paul 08-15 09-08=Victory_Day 09-21=Independence_Day 12-08 12-13=Republic_Day 12-25
NL Europe/Amsterdam 01-01 E+1 E+39 E+50 12-25 12-26
PL Europe/Warsaw 01-01 01-06 E+1 05-01 05-03=Constitution_Day E+60 08-15 11-01 11-11=Independence_Day 12-24@2025 12-25 12-26
PT Europe/Lisbon 01-01 E-2 04-25=Freedom_Day 05-01 E+60@2016 06-10=Portugal_Day 08-15 10-05=Republic_Day@2016 11-01@2016 12-01=Independence_Restored@2016 12-08 12-25
RO Europe/Bucharest 01-01 01-02=second_day_of_the_year 01-06@2024 01-07=Saint_John's_Day@2024 01-24=Union_Day O-2 O+1 05-01 06-01=Children's_Day O+50 08-15 11-30=Saint_Andrew's_Day 12-01=National_Day 12-25 12-26
SE Europe/Stockholm 01-01 01-06 E-2 E+1 05-01 E+39 06-06=National_Day sat>06-20=Midsummer_Day sat>10-31=All_Saints'_Day 12-25 12-26
SI Europe/Ljubljana 01-01 01-02=second_day_of_the_year 02-08=Culture_Day E+1 04-27=Resistance_Day 05-01 05-02=Labour_Day 06-25=Statehood_Day 08-15 10-31=Reformation_Day 11-01 12-25 12-26
SK Europe/Bratislava 01-01 01-06 E-2 E+1 05-01 07-05=Cyril_and_Methodius 08-29=National_Uprising 11-01 12-24 12-25 12-26
`
