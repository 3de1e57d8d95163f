package inference

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/problem"
)

func TestAnOllamaThatOthersReachIsRefused(t *testing.T) {
	t.Parallel()
	// The second field is the address; 2CAA is 11434.
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	for _, test := range []struct {
		name      string
		tcp, tcp6 string
		open      string
	}{
		{"loopback only", "   0: 0100007F:2CAA 00000000:0000 0A\n", "", ""},
		{"both loopbacks", "   0: 0100007F:2CAA 00000000:0000 0A\n", "   0: 00000000000000000000000001000000:2CAA 00000000000000000000000000000000:0000 0A\n", ""},
		{"every address", "   0: 00000000:2CAA 00000000:0000 0A\n", "", "0.0.0.0"},
		{"every address of IPv6", "", "   0: 00000000000000000000000000000000:2CAA 00000000000000000000000000000000:0000 0A\n", "::"},
		{"one address", "   0: 0500000A:2CAA 00000000:0000 0A\n", "", "10.0.0.5"},
		{"another port", "   0: 00000000:2CAB 00000000:0000 0A\n", "", ""},
		{"a connection, no listener", "   0: 0500000A:2CAA 0600000A:9999 01\n", "", ""},
		{"a mapped loopback", "", "   0: 0000000000000000FFFF00000100007F:2CAA 00000000000000000000000000000000:0000 0A\n", ""},
		{"nonsense", "   x: zz:2CAA yy 0A\n 1\n", "", ""},
	} {
		root := tree(t, map[string]string{"proc/net/tcp": head + test.tcp, "proc/net/tcp6": head + test.tcp6})
		f, err := Start(t.Context(), Options{Config: Config{Listen: "127.0.0.1:0"}, Machine: Machine{Root: root}, TLS: newWorldTLS(t)})
		if err == nil {
			_ = f.Stop(t.Context())
		}
		if test.open == "" {
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		if e := problem.From(err); e.Code != "ollama-exposed" || !strings.Contains(e.Detail, test.open) || !strings.Contains(e.Mend, "OLLAMA_HOST=127.0.0.1:11434") {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestTheRealTableShowsARealListener(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		l, err := net.Listen("tcp4", address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		port := uint16(l.Addr().(*net.TCPAddr).Port)
		open, read := listeners("", port)
		if !read {
			t.Skip("this machine has no /proc/net/tcp")
		}
		if want := strings.HasPrefix(address, "0.0.0.0"); (len(open) > 0) != want {
			t.Errorf("listening on %s, port %s: open at %q", address, strconv.Itoa(int(port)), open)
		}
	}
}

func TestAnOllamaThatIsOpenedLaterIsAskedNothingMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	c := w.gateway(t)
	if resp := post(t, c, w.url+"/v1/chat/completions", chat("x", false)); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	port, _ := strconv.Atoi(w.target.Port())
	// Another loopback address would be taken for loopback: every address is not.
	l, err := net.Listen("tcp6", "[::]:"+strconv.Itoa(port))
	if err != nil {
		t.Skipf("this machine does not let the port be taken twice: %v", err)
	}
	w.watch.hurry()
	eventually(t, "the front to notice", func() bool { return w.Health().Status == statusExposed })
	if resp := post(t, c, w.url+"/v1/chat/completions", chat("x", false)); resp.StatusCode != 403 {
		t.Errorf("asked an Ollama that is open to others: %d", resp.StatusCode)
	}
	_ = l.Close()
	eventually(t, "the front to notice that it is mended", func() bool { h := w.Health(); return h.Ready() })
}

func TestGraphicsProcessorsAreReadWhereTheyCanBe(t *testing.T) {
	t.Parallel()
	programs := func(answers map[string]string) func(context.Context, string, ...string) ([]byte, error) {
		return func(_ context.Context, program string, _ ...string) ([]byte, error) {
			if text, ok := answers[program]; ok {
				if text == "fails" {
					return nil, errors.New("exit status 9")
				}
				return []byte(text), nil
			}
			return nil, &exec.Error{Name: program, Err: exec.ErrNotFound}
		}
	}
	sysfs := map[string]string{
		"sys/class/drm/card0/device/mem_info_vram_total": "17163091968\n", "sys/class/drm/card0/device/mem_info_vram_used": "1048576\n",
		"sys/class/drm/card0/device/gpu_busy_percent": "7\n", "sys/class/drm/card1/device/vendor": "0x8086\n",
	}
	const rocm = `{"card0": {"Card Series": "Radeon PRO W7900", "GPU use (%)": "12", "VRAM Total Memory (B)": "48301604864", "VRAM Total Used Memory (B)": "1024", "Temperature (Sensor edge) (C)": "41.0"}, "system": {"Driver version": "6.7"}}`
	for _, test := range []struct {
		name     string
		programs map[string]string
		files    map[string]string
		source   string
		list     []GPU
		why      string
	}{
		{"two of NVIDIA, one of which does not tell", map[string]string{"nvidia-smi": "NVIDIA H100, 99, 81559, 80000, 71\nNVIDIA T4, [N/A], 15360, [Not Supported], 40\n"}, nil, "nvidia-smi",
			[]GPU{{"NVIDIA H100", 99, 81559 << 20, 80000 << 20, 71}, {"NVIDIA T4", -1, 15360 << 20, -1, 40}}, ""},
		{"AMD by its program", map[string]string{"rocm-smi": rocm}, nil, "rocm-smi", []GPU{{"Radeon PRO W7900", 12, 48301604864, 1024, 41}}, ""},
		{"AMD by the kernel", nil, sysfs, "sysfs", []GPU{{"card0", 7, 17163091968, 1048576, -1}}, ""},
		{"a driver that fails, but the kernel tells", map[string]string{"nvidia-smi": "fails"}, sysfs, "sysfs", []GPU{{"card0", 7, 17163091968, 1048576, -1}}, ""},
		{"none", nil, nil, "", []GPU{}, "nvidia-smi is not installed, rocm-smi is not installed"},
		{"a driver that fails", map[string]string{"nvidia-smi": "fails"}, nil, "", []GPU{}, "nvidia-smi failed"},
		{"nonsense", map[string]string{"nvidia-smi": "No devices were found\n", "rocm-smi": "{}"}, nil, "", []GPU{}, "nothing that is understood"},
	} {
		got := Machine{Root: tree(t, test.files), Run: programs(test.programs)}.gpus(t.Context())
		if got.Readable != (test.source != "") || got.Source != test.source || !slices.Equal(got.List, test.list) || !strings.Contains(got.Why, test.why) {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
	if got := (Machine{Root: t.TempDir()}).memory(); got.Readable || !strings.Contains(got.Why, "not readable") {
		t.Errorf("memory without /proc: %+v", got)
	}
	if got := (Machine{Root: tree(t, map[string]string{"proc/meminfo": "MemTotal: lots\n"})}).memory(); got.Readable {
		t.Errorf("memory of nonsense: %+v", got)
	}
}

func FuzzListeners(f *testing.F) {
	f.Add("   0: 0100007F:2CAA 00000000:0000 0A\n")
	f.Add("   0: 00000000000000000000000000000000:2CAA x 0A\n")
	f.Fuzz(func(t *testing.T, table string) {
		for _, ip := range parseListeners(strings.NewReader(table), 11434) {
			if parsed := net.ParseIP(ip); parsed == nil || parsed.IsLoopback() {
				t.Errorf("%q gives %q", table, ip)
			}
		}
	})
}

func FuzzPrograms(f *testing.F) {
	f.Add("NVIDIA L4, 31, 23034, 11264, 54\n")
	f.Add(`{"card0": {"GPU use (%)": "1"}}`)
	f.Fuzz(func(t *testing.T, out string) {
		for _, parse := range []func([]byte) ([]GPU, error){parseNvidia, parseROCm} {
			list, _ := parse([]byte(out))
			for _, g := range list {
				if g.MemoryTotal < -1 || g.MemoryUsed < -1 || g.Busy < -1 || len(g.Name) > 200 {
					t.Errorf("%q gives %+v", out, g)
				}
			}
		}
	})
}
