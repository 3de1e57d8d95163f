package verdict_test

import (
	"fmt"
	"testing"
	"time"

	. "github.com/missionopsai/foundry/internal/fleet/verdict"
)

// large is a fleet of five that looks at 200 functions by two signals each.
func large() Scene {
	s := Scene{Now: at, Speaker: "n0", Before: map[string]Verdict{}}
	for i := range 5 {
		s.Members = append(s.Members, Member{Name: fmt.Sprintf("n%d", i), Votes: true, Heard: ago(time.Second)})
	}
	see := func(who, subject string) {
		for _, signal := range []string{"https", "ssh"} {
			s.Observations = append(s.Observations, Observation{Observer: who, Subject: subject, Signal: signal, Probe: subject + signal, Ends: subject + signal, OK: true,
				Since: ago(time.Hour), Heard: ago(time.Hour), At: ago(time.Second)})
		}
	}
	for f := range 200 {
		name := fmt.Sprintf("function/f%d", f)
		s.Subjects = append(s.Subjects, Subject{Name: name, Hosts: []string{fmt.Sprintf("n%d", f%5)}})
		for i := range 5 {
			see(fmt.Sprintf("n%d", i), name)
		}
	}
	for i := range 5 {
		for j := range 5 {
			if i != j {
				see(fmt.Sprintf("n%d", i), fmt.Sprintf("node/n%d", j))
			}
		}
	}
	return s
}

// BenchmarkFiveNodesAnd200Functions is what one judgement costs.
func BenchmarkFiveNodesAnd200Functions(b *testing.B) {
	s := large()
	for b.Loop() {
		if v := Judge(s)["function/f7"]; v.State != Fine {
			b.Fatal(v.Words)
		}
	}
}
