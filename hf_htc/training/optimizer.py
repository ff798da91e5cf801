"""The optimizer's parameter groups: the encoder and the classifier learn at different rates."""

from transformers import Trainer


class ClassifierGroupOptimizer:
    """
    An optimizer factory for `Trainer(optimizer_cls_and_kwargs=...)`: called with the model as the Trainer has prepared it,
    so that it also works with wrapped models, and anew for every `train()`.
    """

    def __call__(self, model, *, optimizer_class, optimizer_kwargs, classifier_learning_rate, weight_decay):
        # The Trainer's own rule, which reads names and the kinds of layers: GPT-2's `ln_1.weight` is a norm as well.
        decayed = set(Trainer.get_decay_parameter_names(None, model))
        groups = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            key = (is_classifier_parameter(name), name in decayed)
            groups.setdefault(key, []).append(parameter)
        parameter_groups = []
        for (classifier, decays), parameters in sorted(groups.items()):
            group = {"params": parameters, "weight_decay": weight_decay if decays else 0.0}
            if classifier:
                group["lr"] = classifier_learning_rate
            parameter_groups.append(group)
        return optimizer_class(parameter_groups, **optimizer_kwargs)


def is_classifier_parameter(name):
    """
    Whether a parameter belongs to the model's `classifier`, also under the wrappers of PEFT and DistributedDataParallel. Its
    masked language modelling head does not count: it was pretrained with the encoder and learns at the encoder's rate.
    """
    parts = name.split(".")
    return "classifier" in parts and "mlm" not in parts
