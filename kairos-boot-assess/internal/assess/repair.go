package assess

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"

	"github.com/kairos-io/toolkit/kairos-boot-assess/internal/entries"
	"github.com/kairos-io/toolkit/lib/bls"
	"github.com/kairos-io/toolkit/lib/deployment"
	"github.com/kairos-io/toolkit/lib/journal"
	"github.com/kairos-io/toolkit/lib/kind"
)

// Repair is the result of a repair of boot entries.
type Repair struct {
	DryRun   bool              `json:"dry_run"`
	Running  string            `json:"running"`            // id of the running deployment
	Fallback string            `json:"fallback,omitempty"` // the entry that boots when the running deployment fails
	Problems []entries.Problem `json:"problems"`
	Failed   error             `json:"-"` // says which of them could not be repaired
}

// Repair repairs inconsistent boot entries, or only returns what it would do. It does
// one step after the other, each durable before the next, and no step changes the
// running deployment or the one for a fallback. After an interruption the next repair
// does the rest.
//
// The error says what could not be repaired; all other repairs were done.
func (n *Node) Repair(ctx context.Context, dryRun bool) (Repair, error) {
	booted, err := n.Booted()
	if err != nil {
		return Repair{}, err
	}
	if !judged(booted.Mode) {
		return Repair{}, kind.Errorf(ErrNotJudged, "%s systems do not have the store of the boot entries", booted.Mode)
	}
	root, err := os.OpenRoot(n.path(ESPDir))
	if err != nil {
		return Repair{}, fmt.Errorf("repair boot entries: %w", err)
	}
	defer root.Close()
	esp := bls.ESP{Root: root}
	view, err := n.survey(esp, booted)
	if err != nil {
		return Repair{}, fmt.Errorf("repair boot entries: %w", err)
	}
	r := Repair{DryRun: dryRun, Running: booted.ID}
	if r.Problems, r.Fallback = view.Plan(); r.Problems == nil {
		r.Problems = []entries.Problem{}
	}
	if dryRun {
		return r, nil
	}
	for i, p := range r.Problems {
		p, err := n.repairOne(ctx, esp, p)
		if err == nil && p.Done {
			n.writeJournal(repairEntry(p))
		}
		if err != nil {
			p.Error = err.Error()
			r.Failed = errors.Join(r.Failed, fmt.Errorf("%s: %w", p, err))
		}
		r.Problems[i] = p
	}
	return r, nil
}

// survey reads the state of the node. It reads entries before records: deployments are
// published in the reverse order and removed in this order, so that an entry without a
// record never belongs to a concurrent staging.
func (n *Node) survey(esp bls.ESP, booted deployment.Booted) (view entries.Inventory, err error) {
	view.Running = booted.ID
	if view.Entries, err = esp.Entries(); err != nil {
		return view, err
	}
	if view.Files, err = bootFiles(esp.Root); err != nil {
		return view, err
	}
	store, err := os.OpenRoot(n.path(deployment.StoreMount))
	if err != nil {
		return view, err
	}
	defer store.Close()
	all := deployment.ReadAll(store)
	if view.Records = all.Readable; all.Unreadable != nil {
		n.Log.Warn(all.Unreadable.Error())
		view.Unread = true
	}
	view.Missing = func(e bls.Entry, r *deployment.Record) []string { return missing(esp.Root, e, r) }
	return view, nil
}

// missing returns the boot files of an entry that do not exist or have another size
// than in the record.
func missing(esp *os.Root, e bls.Entry, r *deployment.Record) (names []string) {
	size := map[string]int64{}
	if r != nil {
		for _, f := range r.Boot {
			size[f.Path] = f.Size
		}
	}
	for _, name := range e.Files() {
		info, err := esp.Stat(name)
		want, known := size[name]
		if err != nil || !info.Mode().IsRegular() || known && info.Size() != want {
			names = append(names, name)
		}
	}
	return names
}

// bootFilesDir is the directory of boot files on the ESP, and bootFile matches their
// names: kairos-store(5).
const bootFilesDir = "kairos"

var bootFile = regexp.MustCompile(`^(linux|initrd|uki)-[0-9a-f]{64}(\.efi)?$`)

// maxBootFiles is how many files are examined at most.
const maxBootFiles = 4096

func bootFiles(esp *os.Root) (files []string, err error) {
	dir, err := esp.Open(bootFilesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxBootFiles)
	if err != nil && err != io.EOF {
		return nil, err
	}
	for _, name := range names {
		if bootFile.MatchString(name) {
			files = append(files, path.Join(bootFilesDir, name))
		}
	}
	return files, nil
}

// repairOne repairs one problem. An entry whose boot files can't be restored is removed,
// unless it is still needed.
func (n *Node) repairOne(ctx context.Context, esp bls.ESP, p entries.Problem) (entries.Problem, error) {
	var err error
	switch p.Action {
	case entries.Renew:
		err = n.Upgrade(ctx, "rollback", p.Deployment, "--quiet")
	case entries.Restore:
		err = n.restore(ctx, esp, p)
		if other := p.Otherwise(); err != nil && other.Action == entries.Remove {
			n.Log.Warn(err.Error())
			return n.repairOne(ctx, esp, other)
		}
	case entries.Remove:
		err = esp.RemoveFile(p.Name())
	default:
		return p, nil
	}
	p.Done = err == nil
	return p, err
}

// restore makes kairos-upgrade write the boot files of a deployment again.
func (n *Node) restore(ctx context.Context, esp bls.ESP, p entries.Problem) error {
	if err := n.Upgrade(ctx, "verify", "--repair", "--quiet", p.Deployment); err != nil {
		return err
	}
	list, err := esp.Entries()
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Name != p.Name() {
			continue
		}
		if names := missing(esp.Root, e, nil); len(names) > 0 {
			return fmt.Errorf("%s is still not there", names[0])
		}
	}
	return nil
}

// repairEntry returns the journal entry of a repair.
func repairEntry(p entries.Problem) journal.Entry {
	did := map[entries.Action]string{
		entries.Renew: "written again", entries.Restore: "its boot files were written again", entries.Remove: "removed",
	}[p.Action]
	return journal.Entry{
		Message: p.String() + ": " + did, MessageID: journal.Repaired, Priority: 4,
		Fields: map[string]string{
			"KAIROS_ENTRY": p.Entry, "KAIROS_DEPLOYMENT": p.Deployment, "KAIROS_ACTION": string(p.Action),
		},
	}
}
