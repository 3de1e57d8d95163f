package backup

import "time"

// room is how much was free at a target at a moment.
type room struct {
	At   time.Time
	Free int64
}

// fullAt says when a target will be full, by a line through what was free
// after the last runs (least squares). False: it does not shrink, or too
// little is known.
func fullAt(points []room) (time.Time, bool) {
	if len(points) < 3 || points[len(points)-1].At.Sub(points[0].At) < time.Hour {
		return time.Time{}, false
	}
	origin := points[0].At
	var n, sx, sy, sxx, sxy float64
	for _, p := range points {
		x, y := p.At.Sub(origin).Seconds(), float64(p.Free)
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	d := n*sxx - sx*sx
	if d <= 0 {
		return time.Time{}, false
	}
	slope := (n*sxy - sx*sy) / d // bytes in a second
	last := points[len(points)-1]
	if slope >= 0 {
		return time.Time{}, false
	}
	seconds := float64(last.Free) / -slope
	const horizon = 10 * 365 * 24 * 3600 // beyond ten years nobody plans disks
	if seconds > horizon {
		return time.Time{}, false
	}
	return last.At.Add(time.Duration(seconds * float64(time.Second))), true
}
