"""SageMaker: what its containers call, and what is packed for them. Nothing else in ncf knows that it exists."""
