package sandbox

import (
	"testing"
	"time"
)

var zero = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

func at(s float64) time.Time { return zero.Add(time.Duration(s * float64(time.Second))) }

func TestWhatWasAcknowledgedIsHeldAgainstWhatIsThere(t *testing.T) {
	w := &writer{acks: []ack{{"a", "one", at(0.5), at(1), false}, {"b", "one", at(1.5), at(2), false}, {"c", "one", at(2.5), at(3), true}, {"d", "one", at(3.5), at(4), true}, {"e", "two", at(8.5), at(9), false}}}
	there := map[string]bool{"a": true, "d": true, "e": true}
	c := w.compare(there, at(5), at(10))
	if c != (compared{acknowledged: 3, lost: 1, unclear: 2, unclearThere: 1, newest: at(1)}) {
		t.Errorf("%+v", c)
	}
	if got := w.missing(there, at(1.5), at(2)); len(got) != 0 {
		t.Errorf("what came after the look is missing: %v", got)
	}
	if c := w.compare(there, at(5), at(2)); c != (compared{acknowledged: 1, newest: at(1)}) {
		t.Errorf("what came after the look is compared: %+v", c)
	}
	if got := w.missing(there, at(1.5), at(10)); len(got) != 1 || got[0] != "b" {
		t.Errorf("missing %v", got)
	}
	if got := w.missing(there, at(2.5), at(10)); len(got) != 0 {
		t.Errorf("what was never acknowledged is missing: %v", got)
	}
	if a, ok := w.firstAfter(at(2.5)); !ok || a.name != "e" {
		t.Errorf("the first write after it: %+v", a)
	}
	if a, ok := w.firstBy(map[string]bool{"one": true, "two": true}, there, at(0.7)); !ok || a.name != "e" {
		t.Errorf("the first write that is there, by one that began after it: %+v", a)
	}
	if a, ok := w.firstBy(map[string]bool{"one": true}, there, at(0.7)); ok {
		t.Errorf("what is gone was accepted: %+v", a)
	}
}

func TestClientsAreAnsweredOnceNobodyFailsAnyMore(t *testing.T) {
	good := func(node string, from, to float64) answer {
		return answer{node: node, began: at(from), ended: at(to), good: true}
	}
	bad := func(node string, from, to float64) answer { return answer{node: node, began: at(from), ended: at(to)} }
	both := map[string]bool{"two": true, "three": true}
	for name, c := range map[string]struct {
		list []answer
		want time.Duration
		ok   bool
	}{
		"both at once":                    {[]answer{good("two", 10, 10.1), good("three", 10, 10.3)}, 300 * time.Millisecond, true},
		"one fails first":                 {[]answer{good("two", 10, 10.1), bad("three", 10, 12), good("three", 12, 12.5)}, 2500 * time.Millisecond, true},
		"one fails later":                 {[]answer{good("two", 10, 10.1), good("three", 10, 10.1), bad("three", 13, 14), good("three", 14, 14.1)}, 4 * time.Second, true},
		"in flight at the event":          {[]answer{bad("two", 9.9, 12), good("two", 10, 10.1), good("three", 10, 10.2)}, 200 * time.Millisecond, true},
		"the node that was killed":        {[]answer{good("two", 10, 10.1), good("three", 10, 10.2), bad("one", 10, 15)}, 200 * time.Millisecond, true},
		"one answers nobody":              {[]answer{good("two", 10, 10.1), bad("three", 11, 12)}, 0, false},
		"one was answered only before it": {[]answer{good("two", 10, 10.1), good("three", 9, 9.1)}, 0, false},
	} {
		got, ok := (&crowd{answers: c.list}).settled(both, at(10))
		if got != c.want || ok != c.ok {
			t.Errorf("%s: %s %v, want %s %v", name, got, ok, c.want, c.ok)
		}
	}
}
