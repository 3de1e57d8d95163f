package patroni

import (
	"fmt"
	"strings"
	"time"
)

// Finding is one promise of the cluster, and whether it is kept.
type Finding struct {
	ID    string `json:"id"`
	OK    bool   `json:"ok"`
	Words string `json:"words"`
	Mend  string `json:"mend,omitempty"`
}

// longestFailover is how long it may take to the first write on another leader.
const longestFailover = 15 * time.Second

const enforce = "`foundry database patroni enforce` sets it."

// Check says of each promise whether the picture keeps it. What cannot be seen
// in it is not listed: see [NotSeen].
func Check(p *Picture) []Finding {
	if !p.Known {
		return []Finding{{"cluster", false, "No Patroni has made a cluster here yet.", "Start it on a node with the file that `foundry database patroni config` writes."}}
	}
	var out []Finding
	say := func(id string, ok bool, yes, no, mend string) {
		f := Finding{ID: id, OK: ok, Words: yes}
		if !ok {
			f.Words, f.Mend = no, mend
		}
		out = append(out, f)
	}
	if s := p.Settings; s != nil {
		say("strict", s.Sync && s.Strict, "A write is acknowledged when a standby has it too, and never without one.",
			"A write may be acknowledged that only the leader has: synchronous_mode and synchronous_mode_strict are not both on.", enforce)
		say("failsafe", s.Failsafe, "Without the fleet's store the leader goes on for as long as every member says so.",
			"When the fleet's store is away, a healthy leader stops writing: failsafe_mode is off.", enforce)
		say("timings", s.TTL >= s.LoopWait+2*s.Retry && time.Duration(s.TTL+s.LoopWait)*time.Second <= longestFailover,
			fmt.Sprintf("A leader that is gone is replaced after %d s and a round of %d s.", s.TTL, s.LoopWait),
			fmt.Sprintf("ttl %d, loop_wait %d and retry_timeout %d s do not fit: ttl is at least loop_wait and twice retry_timeout, and with loop_wait at most %d s.", s.TTL, s.LoopWait, s.Retry, int(longestFailover/time.Second)),
			"Set ttl 10, loop_wait 2 and retry_timeout 3 with `patronictl edit-config`.")
		say("fails-over", !s.Paused, "It fails over by itself.", "It is paused: nothing fails over.", "`patronictl resume` ends that.")
	} else {
		say("strict", false, "", "The dynamic configuration of the cluster cannot be read.", "Look at the key config with `patronictl show-config`.")
	}
	say("led", p.Leader != "", p.Leader+" leads.", "Nobody holds the leader's key.", "Look at the logs of Patroni on every node.")
	say("standby", p.Leader != "" && p.SyncOf == p.Leader && len(p.Standbys) > 0, strings.Join(p.Standbys, ", ")+" has all that was acknowledged.",
		"No standby is in step with the leader: in strict mode nothing is acknowledged until one is.", "Bring a standby back, or add one.")
	say("spare", len(p.Members) >= 3, fmt.Sprintf("With %d members one may be away and writes go on.", len(p.Members)),
		fmt.Sprintf("With %d members writes stop when one is away, in strict mode.", len(p.Members)), "Add a third member.")
	return out
}

// NotSeen says what nothing here looks at.
func NotSeen() []string {
	return []string{"whether a watchdog device ends PostgreSQL when Patroni hangs: strict mode leaves such a leader nothing to acknowledge, and it may still answer reads",
		"backups of the cluster: replicas repeat a mistake, and are none",
		"what somebody does as superuser over the socket of a member"}
}

// words is the cluster in a sentence.
func words(p *Picture, findings []Finding) string {
	if !p.Known {
		return findings[0].Words
	}
	var bad []string
	for _, f := range findings {
		if !f.OK {
			bad = append(bad, f.Words)
		}
	}
	if len(bad) > 0 {
		if p.Leader != "" {
			bad = append([]string{fmt.Sprintf("%s leads on timeline %d.", p.Leader, p.Timeline)}, bad...)
		}
		return strings.Join(bad, " ")
	}
	return fmt.Sprintf("%s leads on timeline %d; %s has all that was acknowledged.", p.Leader, p.Timeline, strings.Join(p.Standbys, ", "))
}
