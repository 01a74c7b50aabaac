package stage

import (
	"context"
	"fmt"

	"github.com/kairos-io/toolkit/kairos-config/internal/account"
	"github.com/kairos-io/toolkit/kairos-config/internal/schema"
)

// ensureEntities makes lines of the account files, in Kairos' own form.
func (r *run) ensureEntities(context.Context) {
	r.entities(r.step.Spec.EnsureEntities, (*account.Database).EnsureEntity)
}

// deleteEntities takes them away.
func (r *run) deleteEntities(context.Context) {
	r.entities(r.step.Spec.DeleteEntities, (*account.Database).DeleteEntity)
}

func (r *run) entities(list []schema.Entity, apply func(*account.Database, account.Entity) error) {
	if len(list) == 0 {
		return
	}
	db, err := account.Open(r.Root)
	if err != nil {
		r.fail(err)
		return
	}
	defer db.Close()
	for _, text := range list {
		if text.Path != "" {
			r.Log.Warn(fmt.Sprintf("%s: path of an entity is ignored: its kind decides the file in /etc", text.Pos.FileLine()))
		}
		e, err := account.ParseEntity(text.Entity)
		if err == nil {
			err = apply(db, e)
		}
		if err != nil {
			r.fail(fmt.Errorf("%s: %w", text.Pos.FileLine(), err))
		}
	}
	files, err := db.Save()
	r.changed(files...)
	r.fail(err)
}
