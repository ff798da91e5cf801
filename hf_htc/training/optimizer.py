"""The optimizer's parameter groups: the encoder and the classifier learn at different rates."""


class ClassifierGroupOptimizer:
    """
    An optimizer factory for `Trainer(optimizer_cls_and_kwargs=...)`: called with the model as the Trainer has prepared it,
    so that it also works with wrapped models, and anew for every `train()`.
    """

    def __call__(self, model, *, optimizer_class, optimizer_kwargs, classifier_learning_rate, weight_decay):
        groups = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            key = (is_classifier_parameter(name), decays(name))
            groups.setdefault(key, []).append(parameter)
        parameter_groups = []
        for (classifier, decayed), parameters in sorted(groups.items()):
            group = {"params": parameters, "weight_decay": weight_decay if decayed else 0.0}
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


def decays(name):
    """Whether weight decay applies: to matrices, not to biases and norms."""
    return not any(part in name.lower() for part in ("bias", "norm"))
