package index

import (
	"context"
	"database/sql"
	"errors"
	"strings"
)

// maxNames bounds what a builder remembers of names.
const maxNames = 50_000

// name is the number of a name, nil for "".
func (b *builder) name(ctx context.Context, name string) (any, error) {
	if name == "" {
		return nil, nil
	}
	return b.number(ctx, "n"+name, `SELECT id FROM names WHERE name = ?`, `INSERT INTO names (name) VALUES (?)`, []any{name}, []any{name})
}

// actor is the number of an actor, nil for "".
func (b *builder) actor(ctx context.Context, name string) (any, error) {
	if name == "" {
		return nil, nil
	}
	return b.number(ctx, "a"+name, `SELECT id FROM actors WHERE name = ?`, `INSERT INTO actors (name, lower) VALUES (?, ?)`,
		[]any{name}, []any{name, strings.ToLower(name)})
}

// object is the number of an object as people write it, 0 for "".
func (b *builder) object(ctx context.Context, text string) (int64, error) {
	o := parseObject(text)
	if o.name == "" {
		return 0, nil
	}
	key := []any{o.name, o.kind, o.group, o.namespace}
	return b.number(ctx, "o"+text, `SELECT id FROM objects WHERE name = ? AND kind = ? AND grp = ? AND ns = ?`,
		`INSERT INTO objects (name, kind, grp, ns) VALUES (?, ?, ?, ?)`, key, key)
}

// number finds the number of something that has one, and gives it one otherwise.
func (b *builder) number(ctx context.Context, key, find, insert string, findArgs, insertArgs []any) (int64, error) {
	if id := b.ids[key]; id != 0 {
		return id, nil
	}
	s, err := b.prepared(ctx, find)
	if err != nil {
		return 0, err
	}
	var id int64
	if err = s.QueryRowContext(ctx, findArgs...).Scan(&id); errors.Is(err, sql.ErrNoRows) {
		var res sql.Result
		if res, err = b.exec(ctx, insert, insertArgs...); err == nil {
			id, err = res.LastInsertId()
		}
	}
	if err != nil {
		return 0, err
	}
	if len(b.ids) >= maxNames {
		clear(b.ids)
	}
	b.ids[key] = id
	return id, nil
}

// objectName is an object in lower case; what nobody said is empty.
type objectName struct{ kind, group, namespace, name string }

// parseObject takes "Deployment.apps shop/web" apart, and what people write:
// deployment/web, deployment/shop/web, web.
func parseObject(s string) objectName {
	parts := strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return r == ' ' || r == '/' })
	var o objectName
	switch len(parts) {
	case 0:
		return o
	case 1:
		o.name = parts[0]
		return o
	case 2:
		o.name = parts[1]
	default:
		o.namespace, o.name = parts[1], parts[2]
	}
	o.kind, o.group, _ = strings.Cut(parts[0], ".")
	return o
}

// fits says whether an object is one that was asked for.
func (o objectName) fits(other objectName) bool {
	same := func(asked, is string) bool { return asked == "" || asked == is }
	return same(o.name, other.name) && same(o.kind, other.kind) && same(o.group, other.group) && same(o.namespace, other.namespace)
}
