// Package ollama knows how the gateway behaves in front of a real Ollama. Its
// tests carry the build tag ollama and are run by scripts/test-ollama, which
// builds Ollama first. They write two tiny models themselves, load them with
// `ollama create`, start `foundry up` with nothing configured but OLLAMA_HOST,
// and compare what official SDKs get through the gateway with what Ollama says
// when it is asked directly.
package ollama
