package auth

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ocikit/ocikit/registry"
)

// parseRules parses a policy file. It is strict, since what is not understood would be a grant that is missing or, worse, one that
// is wider than meant.
func parseRules(text []byte) ([]rule, error) {
	root, err := parseYAML(text)
	if err != nil {
		return nil, err
	}
	keys, err := mapping(root, "the file", "rules")
	if err != nil {
		return nil, err
	}
	nodes, err := sequence(keys["rules"], "rules")
	if err != nil {
		return nil, err
	}
	rules := make([]rule, len(nodes))
	for i, node := range nodes {
		if rules[i], err = parseRule(node); err != nil {
			return nil, err
		}
	}
	return rules, nil
}

func parseRule(node *yaml.Node) (r rule, err error) {
	keys, err := mapping(node, "a rule", "users", "repositories", "actions")
	if err != nil {
		return rule{}, err
	}
	if r.users, err = list(keys["users"], "users", parseUser); err != nil {
		return rule{}, err
	}
	if r.repositories, err = list(keys["repositories"], "repositories", parseRepositories); err != nil {
		return rule{}, err
	}
	if r.actions, err = list(keys["actions"], "actions", parseAction); err != nil {
		return rule{}, err
	}
	if slices.Contains(r.actions, registry.ActionPush) && !slices.Contains(r.actions, registry.ActionPull) {
		return rule{}, wrong(keys["actions"], "actions: who pushes also pulls (to see what is there already): write [pull, push]")
	}
	return r, nil
}

func parseUser(text string) (string, error) {
	if text == anybody || text == anyUser {
		return text, nil
	}
	return text, checkUser(text)
}

func parseRepositories(text string) (registry.Pattern, error) {
	pattern, err := registry.ParsePattern(text)
	if err != nil {
		return registry.Pattern{}, err
	}
	// A star can stand for a letter next to any separator, so if that is no name, nothing else is.
	if example := strings.NewReplacer("**", "a", "*", "a").Replace(text); !registry.ValidRepository(example) {
		return registry.Pattern{}, fmt.Errorf("pattern %q: no repository can have such a name: they are lower-case, and do not begin or end with '/', '.', '-' or '_'", text)
	}
	return pattern, nil
}

func parseAction(text string) (registry.Action, error) {
	switch action := registry.Action(text); action {
	case registry.ActionPull, registry.ActionPush, registry.ActionDelete:
		return action, nil
	}
	return "", fmt.Errorf("action %q: want pull, push or delete", text)
}

// parseYAML returns the root of the one document that text holds.
func parseYAML(text []byte) (*yaml.Node, error) {
	var document, another yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return nil, errors.New("line 1: the file is empty: write \"rules: []\" to allow nothing")
	}
	if err != nil {
		return nil, syntaxError(err)
	}
	switch err := decoder.Decode(&another); {
	case err == nil:
		return nil, wrong(&another, "a second document; want one")
	case !errors.Is(err, io.EOF):
		return nil, syntaxError(err)
	}
	return document.Content[0], nil
}

func syntaxError(err error) error {
	return fmt.Errorf("%s (lines are indented with spaces, and a star needs quotes: \"**\")", strings.TrimPrefix(err.Error(), "yaml: "))
}

// wrong returns an error about the line that node stands in.
func wrong(node *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("line %d: %s", node.Line, fmt.Sprintf(format, args...))
}

// resolve returns what an alias (*name) stands for.
func resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

// mapping returns the values of a mapping that has the wanted keys, each once, and no other.
func mapping(node *yaml.Node, what string, want ...string) (map[string]*yaml.Node, error) {
	node = resolve(node)
	if node.Kind != yaml.MappingNode {
		return nil, wrong(node, "%s: want the keys %s", what, strings.Join(want, ", "))
	}
	values := map[string]*yaml.Node{}
	for i := 0; i < len(node.Content); i += 2 {
		key := node.Content[i]
		if !slices.Contains(want, key.Value) {
			return nil, wrong(key, "%s: unknown key %q; want %s", what, key.Value, strings.Join(want, ", "))
		}
		if values[key.Value] != nil {
			return nil, wrong(key, "%s: a second %q", what, key.Value)
		}
		values[key.Value] = node.Content[i+1]
	}
	for _, key := range want {
		if values[key] == nil {
			return nil, wrong(node, "%s: no %q; want %s", what, key, strings.Join(want, ", "))
		}
	}
	return values, nil
}

func sequence(node *yaml.Node, key string) ([]*yaml.Node, error) {
	node = resolve(node)
	if node.Kind != yaml.SequenceNode {
		return nil, wrong(node, "%s: want a list, in brackets or of lines that begin with a dash", key)
	}
	return node.Content, nil
}

// list returns a list of texts, parsed. It has at least one: a rule without users, say, is a mistake.
func list[T any](node *yaml.Node, key string, parse func(string) (T, error)) ([]T, error) {
	nodes, err := sequence(node, key)
	if err != nil {
		return nil, err
	}
	if len(nodes) == 0 {
		return nil, wrong(node, "%s: the list is empty", key)
	}
	values := make([]T, len(nodes))
	for i, item := range nodes {
		item = resolve(item)
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
			return nil, wrong(item, "%s: want text", key)
		}
		if values[i], err = parse(item.Value); err != nil {
			return nil, wrong(item, "%s: %s", key, err)
		}
	}
	return values, nil
}
