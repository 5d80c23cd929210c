package director

import (
	"strings"

	"github.com/inferpick/inferpick/types"
)

// weigh counts the media of the prompt by the rules of the model, and completes what a diffusion model has to do.
func (d *Director) weigh(r *Route) {
	req := &r.Request
	if len(req.Prompt.Media) == 0 && req.Work.Kind != types.Denoises {
		return
	}
	family := d.o.Families.Of(req.TargetModel, req.Model)
	family.Apply(&req.Prompt)
	family.Complete(&req.Work, strings.Contains(r.path, "/videos"))
}
