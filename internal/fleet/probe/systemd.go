package probe

import (
	"bufio"
	"bytes"
	"context"
	"os/exec"
	"strings"
	"time"
)

// systemd asks this machine's service manager for a unit.
func (l *look) systemd(ctx context.Context) finding {
	program, err := exec.LookPath("systemctl")
	if err != nil {
		return unknown(NotAvailable, "This machine has no systemd.")
	}
	cmd := exec.CommandContext(ctx, program, "show", "--no-pager", "--property=LoadState,ActiveState,SubState,Result,NRestarts,StateChangeTimestampMonotonic,MainPID", "--", l.t.Rest)
	cmd.Env = []string{"LC_ALL=C", "SYSTEMD_COLORS=0", "PATH=/usr/bin:/bin"}
	cmd.WaitDelay = time.Second
	var out limitedBuffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return unknown(Timeout, "systemd did not answer in time.")
		}
		return unknown(NotAvailable, "systemd does not run on this machine, or does not answer.")
	}
	return l.unitState(readProperties(out.Bytes()))
}

// readProperties reads name=value lines.
func readProperties(text []byte) map[string]string {
	properties := map[string]string{}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		if name, value, ok := strings.Cut(s.Text(), "="); ok && len(properties) < 50 {
			properties[name] = value
		}
	}
	return properties
}

// unitState judges what systemd says of a unit.
func (l *look) unitState(p map[string]string) finding {
	unit, active := l.t.Rest, p["ActiveState"]
	for property, fact := range map[string]string{"ActiveState": "state", "SubState": "sub_state", "NRestarts": "restarts", "Result": "result"} {
		l.fact(fact, p[property])
	}
	switch {
	case active == "" || p["LoadState"] == "":
		return unknown(NotAvailable, "systemd says nothing of %s.", unit)
	case p["LoadState"] == "not-found":
		return bad(NotActive, "There is no unit %s on this machine.", unit)
	case p["LoadState"] != "loaded":
		return bad(NotActive, "The unit %s is %s.", unit, clean(p["LoadState"], 40))
	case active == "activating" || active == "reloading" && p["SubState"] == "":
		return bad(Starting, "The unit %s is starting (%s).", unit, clean(p["SubState"], 40))
	case active == "active" || active == "reloading" || active == "refreshing":
		return good("The unit %s is active (%s).", unit, clean(p["SubState"], 40))
	}
	return bad(NotActive, "The unit %s is %s (%s).", unit, clean(active, 40), clean(p["Result"], 40))
}

// limitedBuffer keeps the first 64 KiB and drops the rest.
type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := 64<<10 - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}
