//go:build ollama

package ollama

import (
	"bytes"
	"encoding/binary"
	"math"
)

// gguf writes a model file in GGUF version 3, as documented in ggml's
// docs/gguf.md: header, metadata, tensor descriptions, then tensors aligned to
// 32 bytes. Everything is little-endian.
type gguf struct {
	pairs   uint64
	meta    bytes.Buffer
	tensors []tensor
}

// tensor is a matrix of 32-bit floats with rows of width in, or a vector if
// out is 0.
type tensor struct {
	name    string
	in, out int
	data    []float32
}

// The types of metadata values that are written here.
const (
	ggufUint32  = 4
	ggufInt32   = 5
	ggufFloat32 = 6
	ggufBool    = 7
	ggufString  = 8
	ggufArray   = 9
)

const ggufAlignment = 32

func put(b *bytes.Buffer, values ...any) {
	for _, v := range values {
		if text, ok := v.(string); ok {
			put(b, uint64(len(text)))
			b.WriteString(text)
			continue
		}
		if err := binary.Write(b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
}

// set adds a metadata pair.
func (g *gguf) set(key string, value any) {
	g.pairs++
	put(&g.meta, key)
	switch v := value.(type) {
	case string:
		put(&g.meta, uint32(ggufString), v)
	case int:
		put(&g.meta, uint32(ggufUint32), uint32(v))
	case float32:
		put(&g.meta, uint32(ggufFloat32), v)
	case bool:
		put(&g.meta, uint32(ggufBool), v)
	case []string:
		put(&g.meta, uint32(ggufArray), uint32(ggufString), uint64(len(v)))
		for _, s := range v {
			put(&g.meta, s)
		}
	case []float32:
		put(&g.meta, uint32(ggufArray), uint32(ggufFloat32), uint64(len(v)), v)
	case []int32:
		put(&g.meta, uint32(ggufArray), uint32(ggufInt32), uint64(len(v)), v)
	default:
		panic("no such metadata type")
	}
}

// add adds a tensor.
func (g *gguf) add(name string, in, out int, data []float32) {
	if len(data) != in*max(out, 1) {
		panic(name + " has the wrong size")
	}
	g.tensors = append(g.tensors, tensor{name, in, out, data})
}

// bytes is the whole file.
func (g *gguf) bytes() []byte {
	var b bytes.Buffer
	b.WriteString("GGUF")
	put(&b, uint32(3), uint64(len(g.tensors)), g.pairs)
	b.Write(g.meta.Bytes())
	offset := uint64(0)
	for _, t := range g.tensors {
		put(&b, t.name)
		if t.out == 0 {
			put(&b, uint32(1), uint64(t.in))
		} else {
			put(&b, uint32(2), uint64(t.in), uint64(t.out))
		}
		put(&b, uint32(0), offset) // type 0: F32
		offset += aligned(uint64(len(t.data)) * 4)
	}
	pad(&b)
	for _, t := range g.tensors {
		for _, f := range t.data {
			b.Write(binary.LittleEndian.AppendUint32(b.AvailableBuffer(), math.Float32bits(f)))
		}
		pad(&b)
	}
	return b.Bytes()
}

func aligned(n uint64) uint64 { return (n + ggufAlignment - 1) / ggufAlignment * ggufAlignment }

func pad(b *bytes.Buffer) { b.Write(make([]byte, aligned(uint64(b.Len()))-uint64(b.Len()))) }
