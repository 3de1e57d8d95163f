package journal

import "testing"

func TestEarlierCountsWhatOtherBootsLeftBehindAPosition(t *testing.T) {
	dir := t.TempDir()
	for boot := uint32(1); boot <= 3; boot++ {
		j := mustOpen(t, dir, options(boot))
		if boot != 2 { // an empty boot in between
			fill(t, j, 40, 4000) // more than one segment
		}
		mustClose(t, j)
	}
	if n := len(segments(t, dir)); n < 5 {
		t.Fatalf("only %d segments: the test needs boots of several", n)
	}
	j := mustOpen(t, dir, options(4))
	fill(t, j, 5, 20) // this boot's own do not count
	for _, c := range []struct {
		after Position
		want  uint64
	}{
		{Position{}, 80}, {Position{1, 0}, 80}, {Position{1, 13}, 67}, {Position{1, 40}, 40}, {Position{2, 0}, 40},
		{Position{3, 1}, 39}, {Position{3, 40}, 0}, {Position{4, 0}, 0},
	} {
		if got := j.Earlier(c.after); got != c.want {
			t.Errorf("after %v: %d, want %d", c.after, got, c.want)
		}
	}
	mustClose(t, j)
}
