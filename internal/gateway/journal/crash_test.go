package journal

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"
)

// TestMain turns the test binary into a writer when it is told to.
func TestMain(m *testing.M) {
	if dir := os.Getenv("JOURNAL_TEST_WRITER"); dir != "" {
		boot, _ := strconv.ParseUint(os.Getenv("JOURNAL_TEST_BOOT"), 10, 32)
		writeUntilKilled(dir, uint32(boot))
		return
	}
	os.Exit(m.Run())
}

// writeUntilKilled appends from several goroutines, and prints the number of
// each record once it is acknowledged.
func writeUntilKilled(dir string, boot uint32) {
	o := options(boot)
	o.SegmentBytes, o.MaxBytes = 1<<20, 1<<30
	j, err := Open(dir, o)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	for w := range 8 {
		r := rand.New(rand.NewPCG(uint64(boot), uint64(w)))
		go func() {
			for {
				mu.Lock() // so that the content can name the sequence number
				seq := j.next
				size := r.IntN(3000)
				if r.IntN(4) == 0 { // several pages, so that a kill can land inside one write
					size = r.IntN(60_000)
				}
				tk, err := j.Append([]byte(content(boot, seq, size)))
				mu.Unlock()
				if err == nil {
					err = tk.Wait(context.Background())
				}
				if err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				// One write system call, so that a kill never tears a line's meaning.
				_, _ = os.Stdout.WriteString(strconv.FormatUint(tk.Seq(), 10) + "\n")
			}
		}()
	}
	select {}
}

func TestKillNineLosesNothingAcknowledged(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 6
	}
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(1, 2))
	var acknowledged []Position
	var after Position // shipped and released up to here
	boot := uint32(0)
	torn, kills := 0, 0
	for range rounds {
		boot++
		acknowledged = append(acknowledged, killed(t, dir, boot, r.IntN(200))...)
		kills++
		boot++
		j := mustOpen(t, dir, options(boot))
		if j.Stats().TornBytes > 0 {
			torn++
		}
		g := readAll(t, j, after)
		if len(g.damage) != 0 {
			t.Fatalf("damage: %v", g.damage)
		}
		read := map[Position]bool{}
		prev := after
		for i, p := range g.at {
			if !prev.Before(p) {
				t.Fatalf("%v after %v: out of order or twice", p, prev)
			}
			prev, read[p] = p, true
			if c := content(p.Boot, p.Seq, 0); len(g.records[i]) < len(c) || g.records[i][:len(c)] != c {
				t.Fatalf("record at %v reads %.40q", p, g.records[i])
			}
		}
		for _, p := range acknowledged {
			if after.Before(p) && !read[p] {
				t.Fatalf("round %d: record %v was acknowledged and is gone", boot/2, p)
			}
		}
		if len(g.at) > 0 && boot%6 == 0 {
			after = g.at[len(g.at)-1]
			if err := j.Release(after); err != nil {
				t.Fatal(err)
			}
			acknowledged = nil
		}
		mustClose(t, j)
	}
	t.Logf("%d kills, %d of them left a torn tail", kills, torn)
}

// killed runs a writer and kills it after it acknowledged some records.
func killed(t *testing.T, dir string, boot uint32, after int) []Position {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "JOURNAL_TEST_WRITER="+dir, "JOURNAL_TEST_BOOT="+strconv.Itoa(int(boot)))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer watchdog.Stop()
	var at []Position
	for sc := bufio.NewScanner(out); sc.Scan(); {
		seq, err := strconv.ParseUint(sc.Text(), 10, 64)
		if err != nil {
			t.Fatalf("the writer says %q", sc.Text())
		}
		at = append(at, Position{boot, seq})
		if len(at) == after+1 {
			_ = cmd.Process.Kill() // what it printed before it died is still read
		}
	}
	_ = cmd.Wait()
	if len(at) <= after {
		t.Fatalf("the writer ended by itself after %d records", len(at))
	}
	return at
}
