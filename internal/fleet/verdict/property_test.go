package verdict_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	. "github.com/missionopsai/foundry/internal/fleet/verdict"
	"pgregory.net/rapid"
)

var at = time.Date(2026, 11, 23, 3, 12, 40, 0, time.UTC)

func ago(d time.Duration) time.Time { return at.Add(-d) }

var signals = []string{"https", "tls", "tcp", "ssh", "postgresql", "peer", "systemd", "disk"}

// arbitrary draws any scene at all, plausible or not.
func arbitrary(t *rapid.T) Scene {
	n := rapid.IntRange(1, 6).Draw(t, "members")
	s := Scene{Now: at, Before: map[string]Verdict{}}
	seconds := rapid.Map(rapid.IntRange(0, 90), func(n int) time.Duration { return time.Duration(n) * time.Second })
	for i := range n {
		m := Member{Name: string(rune('a' + i)), Votes: true, Heard: ago(seconds.Draw(t, "heard") / 10)}
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			m.Heard = ago(seconds.Draw(t, "silent"))
			m.LeaseEnded = m.Heard.Add(8 * time.Second)
			if m.LeaseEnded.After(at) {
				m.LeaseEnded = at
			}
		case 1:
			m.Offset = rapid.SampledFrom([]time.Duration{-time.Hour, time.Second, 40 * time.Second}).Draw(t, "offset")
		}
		s.Members = append(s.Members, m)
	}
	s.Subjects = []Subject{{Name: "function/f", Hosts: []string{"a"}}, {Name: "function/g"}, {Name: "node/other"}}
	if rapid.Bool().Draw(t, "speaks") {
		s.Speaker = "a"
	}
	subjects := []string{"function/f", "function/g", "node/other"}
	for _, m := range s.Members {
		subjects = append(subjects, Node(m.Name))
	}
	for range rapid.IntRange(0, 60).Draw(t, "observations") {
		s.Observations = append(s.Observations, observation(t, s, rapid.SampledFrom(subjects).Draw(t, "subject"), rapid.Bool().Draw(t, "ok")))
	}
	if rapid.IntRange(0, 3).Draw(t, "before") == 0 {
		on := rapid.SampledFrom(subjects).Draw(t, "was")
		state := rapid.SampledFrom(States).Draw(t, "state")
		v := Verdict{Subject: on, State: state, Since: ago(5 * time.Minute), Decided: ago(4 * time.Minute), Quorum: n/2 + 1}
		if state == Lost {
			for _, m := range s.Members[:v.Quorum] {
				v.For = append(v.For, Observation{Observer: m.Name, Subject: on, Signal: "https"}, Observation{Observer: m.Name, Subject: on, Signal: "ssh"})
			}
		}
		s.Before[on] = v
	}
	return s
}

func observation(t *rapid.T, s Scene, subject string, ok bool) Observation {
	o := Observation{Observer: s.Members[rapid.IntRange(0, len(s.Members)-1).Draw(t, "observer")].Name, Subject: subject,
		Signal: rapid.SampledFrom(signals).Draw(t, "signal"), OK: ok, At: ago(time.Second)}
	o.Since = ago(time.Duration(rapid.IntRange(-5, 90).Draw(t, "since")) * time.Second)
	o.Heard = ago(time.Duration(rapid.IntRange(0, 90).Draw(t, "heard")) * time.Second)
	o.Took = time.Duration(rapid.IntRange(0, 4000).Draw(t, "took")) * time.Millisecond
	o.Changes = rapid.IntRange(0, 8).Draw(t, "changes")
	if !ok {
		o.Code = rapid.SampledFrom([]string{"timeout", "refused", "status"}).Draw(t, "code")
	}
	o.Ends = rapid.SampledFrom([]string{"", "x:443", "x:22"}).Draw(t, "ends")
	return o
}

func TestALossCarriesAQuorumAndTwoKindsInItsEvidence(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := arbitrary(t)
		for subject, v := range Judge(s) {
			if before := s.Before[subject]; v.State != Lost || before.State == Lost {
				continue
			}
			if n := len(observers(v.For)); n < v.Quorum || v.Quorum*2 <= len(s.Members) {
				t.Fatalf("%s is lost by the word of %d of %d members, quorum %d: %s", subject, n, len(s.Members), v.Quorum, v.Words)
			}
			if len(kinds(v.For)) < 2 {
				t.Fatalf("%s is lost by %v alone", subject, kinds(v.For))
			}
			for _, o := range v.For {
				if o.OK {
					t.Fatalf("%s is lost by what works: %+v", subject, o)
				}
			}
		}
	})
}

func TestOrderAndRepetitionOfObservationsChangeNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := arbitrary(t)
		want := fmt.Sprintf("%+v", Judge(s))
		other := s
		other.Observations = rapid.Permutation(s.Observations).Draw(t, "order")
		other.Observations = append(other.Observations, other.Observations...)
		other.Members = rapid.Permutation(s.Members).Draw(t, "members")
		other.Subjects = rapid.Permutation(s.Subjects).Draw(t, "subjects")
		if got := fmt.Sprintf("%+v", Judge(other)); got != want {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	})
}

// Whatever anybody outside says, in however many voices, and whatever another
// fleet lets some of this one see of it: nothing is held otherwise here.
func TestNobodyOutsideHasAVoiceAndNoOtherFleetSpeaksOnThisOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := arbitrary(t)
		before := Judge(s)
		strangers := Scene{Members: []Member{{Name: "x"}, {Name: "y"}, {Name: "z"}}}
		subjects := []string{"function/f", "function/g", "node/other", Fleet}
		for _, m := range s.Members {
			subjects = append(subjects, Node(m.Name))
		}
		s.Observations = slices.Clone(s.Observations)
		for range rapid.IntRange(0, 30).Draw(t, "said outside") {
			s.Observations = append(s.Observations, observation(t, strangers, rapid.SampledFrom(subjects).Draw(t, "subject"), rapid.Bool().Draw(t, "ok")))
		}
		s.Subjects = append(slices.Clone(s.Subjects), Subject{Name: Outside("f")}, Subject{Name: Outside("a")})
		for range rapid.IntRange(0, 30).Draw(t, "seen outside") {
			s.Observations = append(s.Observations, observation(t, s, rapid.SampledFrom([]string{Outside("f"), Outside("a")}).Draw(t, "other"), rapid.Bool().Draw(t, "ok")))
		}
		after := Judge(s)
		for subject, v := range before {
			is := after[subject]
			if v.State == CutOff {
				v.Words, is.Words = "", "" // which name what else it reaches
			}
			if !reflect.DeepEqual(is, v) {
				t.Fatalf("%s was %+v and is %+v", subject, v, is)
			}
		}
	})
}

func TestMoreEvidenceAgainstASubjectNeverEndsItsLoss(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := scene(t, rapid.IntRange(1, 5).Draw(t, "members"))
		victim := rapid.SampledFrom([]string{"node/a", "function/f", "function/g"}).Draw(t, "victim")
		s = s.fails(t, victim)
		before := Judge(s.Scene)
		more := s.Scene
		for range rapid.IntRange(1, 4).Draw(t, "more") {
			o := observation(t, s.Scene, victim, false)
			o.Since, o.Code = ago(time.Minute), "timeout"
			// A new line of sight, or the same that now fails.
			o.Probe = rapid.SampledFrom([]string{"", "new"}).Draw(t, "probe")
			more.Observations = slices.DeleteFunc(slices.Clone(more.Observations), func(x Observation) bool {
				return x.Observer == o.Observer && x.Subject == o.Subject && x.Signal == o.Signal && x.Ends == o.Ends && x.Probe == o.Probe
			})
			more.Observations = append(more.Observations, o)
		}
		if after := Judge(more); before[victim].State == Lost && after[victim].State != Lost {
			t.Fatalf("was %s\nis %s: %s", before[victim].Words, after[victim].State, after[victim].Words)
		}
	})
}

// plain is a scene in which everybody looks at everything and agrees.
type plain struct{ Scene }

func scene(t *rapid.T, n int) plain {
	s := Scene{Now: at, Before: map[string]Verdict{}, Subjects: []Subject{{Name: "function/f", Hosts: []string{"a"}}, {Name: "function/g"}}}
	for i := range n {
		s.Members = append(s.Members, Member{Name: string(rune('a' + i)), Votes: true, Heard: ago(time.Second)})
	}
	p := plain{s}
	for _, m := range s.Members {
		for _, other := range s.Members {
			if other.Name != m.Name {
				p.sees(m.Name, Node(other.Name), "", time.Hour)
			}
		}
		p.sees(m.Name, "function/f", "", time.Hour)
		p.sees(m.Name, "function/g", "", time.Hour)
	}
	return p
}

// sees replaces what an observer says of a subject.
func (p *plain) sees(who, subject, code string, since time.Duration) {
	p.Observations = slices.DeleteFunc(p.Observations, func(o Observation) bool { return o.Observer == who && o.Subject == subject })
	for signal, port := range map[string]string{"https": ":443", "ssh": ":22"} {
		p.Observations = append(p.Observations, Observation{Observer: who, Subject: subject, Signal: signal, Ends: subject + port, OK: code == "", Code: code, Since: ago(since), At: ago(time.Second)})
	}
}

// fails makes a subject really fail, to some of those who look.
func (p plain) fails(t *rapid.T, subject string) plain {
	p.Observations, p.Members = slices.Clone(p.Observations), slices.Clone(p.Members)
	if subject == "node/a" && rapid.IntRange(0, 3).Draw(t, "silent") > 0 {
		p.Members[0].Heard, p.Members[0].LeaseEnded = ago(40*time.Second), ago(30*time.Second)
	}
	for _, m := range p.Members {
		if Node(m.Name) != subject && rapid.IntRange(0, 3).Draw(t, "sees") > 0 {
			p.sees(m.Name, subject, "timeout", 40*time.Second)
		}
	}
	return p
}

// TestOneLiarNeverChangesWhatIsLost has one observer report anything at all, in
// a fleet of three or more in which the others agree about the truth.
func TestOneLiarNeverChangesWhatIsLost(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(3, 6).Draw(t, "members")
		honest := scene(t, n)
		victim := rapid.SampledFrom([]string{"", "node/a", "function/f", "function/g"}).Draw(t, "victim")
		for _, m := range honest.Members {
			switch {
			case victim == "":
			case Node(m.Name) != victim:
				honest.sees(m.Name, victim, "timeout", 40*time.Second)
			}
		}
		if victim == "node/a" {
			// What runs there alone fails with it.
			for _, m := range honest.Members[1:] {
				honest.sees(m.Name, "function/f", "timeout", 40*time.Second)
			}
			honest.Members[0].Heard, honest.Members[0].LeaseEnded = ago(40*time.Second), ago(30*time.Second)
		}
		liar := honest.Members[rapid.IntRange(1, n-1).Draw(t, "liar")].Name
		lied := plain{honest.Scene}
		lied.Observations = slices.DeleteFunc(slices.Clone(honest.Observations), func(o Observation) bool { return o.Observer == liar })
		for _, subject := range subjectsOf(honest.Scene) {
			for range rapid.IntRange(0, 3).Draw(t, "lies") {
				o := observation(t, honest.Scene, subject, rapid.Bool().Draw(t, "ok"))
				if o.Observer = liar; o.Signal == "systemd" || o.Signal == "disk" {
					o.Signal = "https" // what only one can see is his word against none
				}
				lied.Observations = append(lied.Observations, o)
			}
		}
		if rapid.Bool().Draw(t, "liar judges") {
			lied.Speaker = liar
		}
		truth, got := Judge(honest.Scene), Judge(lied.Scene)
		for subject, v := range got {
			if (v.State == Lost) != (truth[subject].State == Lost) {
				t.Fatalf("%s lies, and %s is %s (%s) instead of %s (%s)", liar, subject, v.State, v.Words, truth[subject].State, truth[subject].Words)
			}
			if v.State == Suspected && lied.Speaker == "" && truth[subject].State == Fine {
				t.Fatalf("%s lies, and %s is suspected: %s", liar, subject, v.Words)
			}
		}
	})
}

func subjectsOf(s Scene) []string {
	out := []string{"function/f", "function/g"}
	for _, m := range s.Members {
		out = append(out, Node(m.Name))
	}
	return out
}

func TestWithoutAQuorumNobodyIsLost(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 6).Draw(t, "members")
		s := scene(t, n)
		// Fewer than half, leases among them, say that everything is away.
		against := rapid.IntRange(0, n/2).Draw(t, "against")
		var accusers []string
		for _, m := range s.Members {
			accusers = append(accusers, m.Name)
		}
		accusers = rapid.Permutation(accusers).Draw(t, "accusers")[:against]
		for _, who := range accusers {
			for _, subject := range subjectsOf(s.Scene) {
				if subject != Node(who) {
					s.sees(who, subject, rapid.SampledFrom([]string{"timeout", "refused"}).Draw(t, "code"), time.Duration(rapid.IntRange(0, 100).Draw(t, "since"))*time.Second)
				}
			}
		}
		for subject, v := range Judge(s.Scene) {
			if v.State == Lost {
				t.Fatalf("%d of %d say so, and %s is lost: %s", against, n, subject, v.Words)
			}
		}
	})
}

func TestWhoHearsNoMajorityAccusesNobody(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := arbitrary(t)
		n := len(s.Members)
		if n == 1 {
			return
		}
		s.Speaker = "a"
		heard := 1
		for i := range s.Members {
			if s.Members[i].LeaseEnded = (time.Time{}); i > 0 {
				if s.Members[i].Heard = ago(time.Minute); heard < n/2 && rapid.Bool().Draw(t, "still heard") {
					s.Members[i].Heard, heard = ago(time.Second), heard+1
				}
			}
		}
		if heard*2 > n {
			return
		}
		for subject, v := range Judge(s) {
			switch v.State {
			case Fine:
			case Unknown:
			case CutOff:
				if subject != "node/a" {
					t.Fatalf("a says of %s that it is cut off", subject)
				}
			default:
				t.Fatalf("a hears %d of %d, and says that %s is %s: %s", heard, n, subject, v.State, v.Words)
			}
		}
	})
}
