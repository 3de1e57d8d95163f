package inference

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Machine is how a machine is read. The zero value reads this one.
type Machine struct {
	Root string                                                                    // in place of /, for tests
	Run  func(ctx context.Context, program string, args ...string) ([]byte, error) // in place of running a program
}

func (m Machine) root() string { return strings.TrimSuffix(m.Root, "/") }

// Memory is the machine's memory.
type Memory struct {
	Readable  bool   `json:"readable"`
	Why       string `json:"why,omitempty"` // it is not
	Total     int64  `json:"total_bytes,omitempty"`
	Available int64  `json:"available_bytes,omitempty"`
}

// GPUs are the machine's graphics processors.
type GPUs struct {
	Readable bool   `json:"readable"`
	Why      string `json:"why,omitempty"`    // they are not
	Source   string `json:"source,omitempty"` // nvidia-smi, rocm-smi or sysfs
	List     []GPU  `json:"list"`
}

// GPU is one graphics processor. A number that its driver does not tell is -1.
type GPU struct {
	Name        string `json:"name"`
	Busy        int    `json:"busy_percent"`
	MemoryTotal int64  `json:"memory_total_bytes"`
	MemoryUsed  int64  `json:"memory_used_bytes"`
	Celsius     int    `json:"celsius"`
}

const programTimeout = 3 * time.Second

// gpus asks the vendors' programs, then the kernel.
func (m Machine) gpus(ctx context.Context) GPUs {
	run := m.Run
	if run == nil {
		run = func(ctx context.Context, program string, args ...string) ([]byte, error) {
			return exec.CommandContext(ctx, program, args...).Output()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, programTimeout)
	defer cancel()
	var why []string
	for _, source := range []struct {
		name  string
		args  []string
		parse func([]byte) ([]GPU, error)
	}{
		{"nvidia-smi", []string{"--query-gpu=name,utilization.gpu,memory.total,memory.used,temperature.gpu", "--format=csv,noheader,nounits"}, parseNvidia},
		{"rocm-smi", []string{"--showproductname", "--showuse", "--showmeminfo", "vram", "--showtemp", "--json"}, parseROCm},
	} {
		out, err := run(ctx, source.name, source.args...)
		if err != nil {
			if errors.Is(err, exec.ErrNotFound) {
				why = append(why, source.name+" is not installed")
			} else {
				why = append(why, source.name+" failed")
			}
			continue
		}
		list, err := source.parse(out)
		if err != nil || len(list) == 0 {
			why = append(why, source.name+" said nothing that is understood")
			continue
		}
		return GPUs{Readable: true, Source: source.name, List: list}
	}
	if list := m.sysfs(); len(list) > 0 {
		return GPUs{Readable: true, Source: "sysfs", List: list}
	}
	return GPUs{Why: "not readable: " + strings.Join(append(why, "the kernel lists none that tells its memory"), ", "), List: []GPU{}}
}

// parseNvidia reads nvidia-smi's CSV: memory in MiB, [N/A] for what the
// driver does not tell (nvidia-smi --help-query-gpu).
func parseNvidia(out []byte) ([]GPU, error) {
	r := csv.NewReader(bytes.NewReader(out))
	r.TrimLeadingSpace, r.FieldsPerRecord = true, 5
	rows, err := r.ReadAll()
	if err != nil {
		return nil, err
	}
	var list []GPU
	for _, row := range rows {
		g := GPU{Name: clip(strings.TrimSpace(row[0])), Busy: int(number(row[1])), Celsius: int(number(row[4]))}
		g.MemoryTotal, g.MemoryUsed = mebi(number(row[2])), mebi(number(row[3]))
		list = append(list, g)
	}
	return list, nil
}

// parseROCm reads rocm-smi's JSON: one object for each card, whose names of
// fields differ between versions only in what stands around these words.
func parseROCm(out []byte) ([]GPU, error) {
	var cards map[string]map[string]any
	if err := json.Unmarshal(out, &cards); err != nil {
		return nil, err
	}
	var names []string
	for name := range cards {
		if strings.HasPrefix(name, "card") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var list []GPU
	for _, name := range names {
		find := func(words ...string) string {
			for field, value := range cards[name] {
				if text, ok := value.(string); ok && strings.EqualFold(field, strings.Join(words, " ")) {
					return text
				}
			}
			return ""
		}
		g := GPU{Name: clip(find("Card Series")), Busy: int(number(find("GPU use (%)"))), MemoryTotal: number(find("VRAM Total Memory (B)")),
			MemoryUsed: number(find("VRAM Total Used Memory (B)")), Celsius: int(number(find("Temperature (Sensor edge) (C)")))}
		if g.Name == "" {
			g.Name = name
		}
		list = append(list, g)
	}
	return list, nil
}

// sysfs reads what the amdgpu driver tells by files
// (docs.kernel.org/gpu/amdgpu/driver-misc.html).
func (m Machine) sysfs() (list []GPU) {
	cards, _ := filepath.Glob(m.root() + "/sys/class/drm/card*/device/mem_info_vram_total") // a well-formed pattern
	slices.Sort(cards)
	for _, path := range cards {
		dir := filepath.Dir(path)
		read := func(name string) int64 {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return -1
			}
			return number(string(text))
		}
		if total := read("mem_info_vram_total"); total > 0 {
			list = append(list, GPU{Name: filepath.Base(filepath.Dir(dir)), Busy: int(read("gpu_busy_percent")), MemoryTotal: total, MemoryUsed: read("mem_info_vram_used"), Celsius: -1})
		}
	}
	return list
}

// memory reads /proc/meminfo (proc_meminfo(5)): kibibytes, written kB.
func (m Machine) memory() Memory {
	f, err := os.Open(m.root() + "/proc/meminfo")
	if err != nil {
		return Memory{Why: "not readable: /proc/meminfo cannot be opened"}
	}
	defer f.Close()
	out := Memory{Total: -1, Available: -1}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		to := map[string]*int64{"MemTotal": &out.Total, "MemAvailable": &out.Available}[name]
		if n := number(strings.TrimSuffix(strings.TrimSpace(value), " kB")); to != nil && n >= 0 && n < 1<<50 {
			*to = n << 10
		}
	}
	if out.Total < 0 || out.Available < 0 {
		return Memory{Why: "not readable: /proc/meminfo does not tell it"}
	}
	out.Readable = true
	return out
}

// number reads a number that is not negative; -1 for anything else.
func number(text string) int64 {
	text = strings.TrimSpace(text)
	if whole, _, ok := strings.Cut(text, "."); ok {
		text = whole
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

func mebi(n int64) int64 {
	if n < 0 || n > 1<<40 {
		return -1
	}
	return n << 20
}
